"""The tour: five short lessons, each with a prediction to make before the answer is computed."""

import streamlit as st

from jdviz.lessons import LESSONS, Lesson
from jdviz.pages.controls import Choice, check_address, escaped, forget_address
from jdviz.pages.frame import open_page, plain_errors, prose
from jdviz.pages.lecture import hidden, locked
from jdviz.pages.registry import PAGES
from jdviz.pages.tour_figures import SCENES, SETTINGS, Scene

_KEYS = tuple(LESSONS)
LESSON = Choice("u_lesson", "Lesson", _KEYS, _KEYS[0])
OPEN, HIDDEN, SHOWN = "none", "hidden", "shown"
GUESS = Choice("u_guess", "Prediction", (OPEN, "1", "2", "3"), OPEN)
ANSWER = Choice("u_answer", "Answer", (HIDDEN, SHOWN), HIDDEN)
_RADIO, _LESSONS = "tour:guess", "tour:lessons"


def _keep(setting: Choice, value: str) -> None:
    """Hold a value in the session and the address; the latter leaves out what is the default."""
    st.session_state[setting.key] = value
    if value != setting.default:
        st.query_params[setting.key] = value
    elif setting.key in st.query_params:
        del st.query_params[setting.key]


def _go_to(key: str) -> None:
    """Open a lesson from its beginning."""
    forget_address("tour")
    _keep(LESSON, key)
    _keep(GUESS, OPEN)
    _keep(ANSWER, HIDDEN)


def _chosen() -> None:
    _go_to(st.session_state[_LESSONS])


def _guessed() -> None:
    forget_address("tour")
    _keep(GUESS, st.session_state[_RADIO])


def _draw_way(number: int) -> None:
    """Draw the lessons' names, and back and next beside them."""
    names, beside = st.columns([3.4, 1], vertical_alignment="center")
    st.session_state[_LESSONS] = _KEYS[number]
    names.segmented_control(
        "Lesson",
        _KEYS,
        format_func=lambda key: f"{_KEYS.index(key) + 1}. {LESSONS[key].title}",
        required=True,
        key=_LESSONS,
        on_change=_chosen,
        label_visibility="collapsed",
        width="stretch",
        wrap=True,
        disabled=locked(LESSON.key),
    )
    with beside, st.container(horizontal=True):
        _draw_step("Back", number - 1)
        _draw_step("Next", number + 1)


def _draw_step(label: str, number: int) -> None:
    there = 0 <= number < len(_KEYS)
    st.button(
        label,
        key=f"tour:{label.lower()}",
        shortcut=label[0],
        disabled=not there or locked(LESSON.key),
        on_click=_go_to,
        args=(_KEYS[number] if there else "",),
        width="stretch",
    )


def _draw_question(lesson: Lesson, scene: Scene) -> None:
    """Draw the prediction and Play; then whether it was right, and why."""
    guess = GUESS.current()
    st.session_state[_RADIO] = None if guess == OPEN else guess
    st.markdown(f"**Predict.** {lesson.question}")
    st.radio(
        lesson.question,
        ("1", "2", "3"),
        index=None,
        format_func=lambda choice: lesson.choices[int(choice) - 1],
        key=_RADIO,
        on_change=_guessed,
        label_visibility="collapsed",
        disabled=locked(GUESS.key),
    )
    st.button(
        "Play",
        type="primary",
        key="tour:play",
        disabled=guess == OPEN,
        on_click=_keep,
        args=(ANSWER, SHOWN),
        help="Computes the answer. Choose a prediction first." if guess == OPEN else None,
    )
    if ANSWER.current() == SHOWN:
        _draw_verdict(lesson, scene, guess)


def _draw_verdict(lesson: Lesson, scene: Scene, guess: str) -> None:
    answer = scene.answer()
    right = lesson.choices[answer.right]
    if guess == OPEN:
        begin = "The answer"
    elif int(guess) - 1 == answer.right:
        begin = "Your prediction was right"
    else:
        begin = "Your prediction was not right. The answer"
    st.info(f"**{begin}: “{escaped(right)}”.** {escaped(answer.reason)}")


def _draw() -> None:
    check_address("tour", (LESSON, GUESS, ANSWER, *SETTINGS))
    lesson = LESSONS[LESSON.current()]
    for setting in (LESSON, GUESS, ANSWER):
        _keep(setting, setting.current())
    number = _KEYS.index(lesson.key)
    if not hidden(LESSON.key):
        _draw_way(number)
    scene = SCENES[lesson.key]
    words, stage = st.columns([1, 1.6], gap="large")
    with words, plain_errors():
        prose(lesson.text)
        if not hidden(GUESS.key):
            _draw_question(lesson, scene)
        way = scene.way()
        st.page_link(PAGES[way.page].path, label=f"**{way.label}**", query_params=way.query)
        st.caption(f"Source: {escaped(lesson.source)}")
    with stage, plain_errors():
        if ANSWER.current() == SHOWN:
            scene.after()
        if scene.stays or ANSWER.current() == HIDDEN:
            scene.before()


open_page("tour")
with plain_errors():
    _draw()
