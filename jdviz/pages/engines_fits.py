"""The views of what fits into a budget, and of what the engine does with each parameter."""

from collections import Counter
from collections.abc import Callable, Sequence

import streamlit as st

from jdviz.figures import fit_bars, fit_caption, fit_table, plan_table
from jdviz.pages.controls import escaped
from jdviz.pages.engines_code import fits_code
from jdviz.pages.engines_controls import MEBIBYTE, Asked, own_command
from jdviz.pages.frame import Panel, draw_panels, opened, theme
from jdviz.profiling import PEERS, MeasurementError, StepMethod
from jdviz.profiling import measure as measure_step
from jdviz.profiling.estimate import largest_batch
from jdviz.profiling.fits import Fit, verify_fit
from jdviz.profiling.lab import FitKey, within_machine
from jdviz.profiling.results import Use
from jdviz.server import lab


def measure(asked: Asked, watch: Callable[[str], None]) -> list[str]:
    """Looks for the largest batch of every method by bisection in child processes.

    Args:
        asked: What the controls ask for.
        watch: Told what is going on.

    Returns:
        What failed, a sentence each.
    """
    if not asked.subject.resizable:
        return []
    failed = []
    for method in _methods(asked):
        try:
            found = verify_fit(
                asked.subject.key,
                asked.size,
                method,
                asked.budget_bytes,
                _predicted(asked, method),
                measure=lambda spec, limits: measure_step(spec, within_machine(limits), watch),
                timeout_s=asked.limits.timeout_s,
            )
        except MeasurementError as error:
            failed.append(str(error))
        else:
            lab().fits.put(_key(asked, method), found)
    return failed


def draw(asked: Asked) -> None:
    """Draws the predicted largest batch of every method and, where it was looked for, the real."""
    if not asked.subject.resizable:
        st.info(
            f"{asked.subject.title} comes with one batch size. Give its factory an argument "
            "batch_size to see which batches fit."
        )
        return
    fits = [
        lab().fits.get(_key(asked, method))
        or Fit.unverified(method, asked.budget_bytes, _predicted(asked, method))
        for method in _methods(asked)
    ]
    budget = f"{asked.budget_bytes / MEBIBYTE:,.0f} MiB"
    draw_panels(
        Panel(
            "fits",
            f"Largest batch within {budget}",
            fit_bars(fits, theme()),
            fit_caption(fits),
            code=fits_code(fits),
        )
    )
    with opened("numbers-fit-table", "The same as numbers") as is_open:
        if is_open:
            st.dataframe(
                fit_table(fits),
                hide_index=True,
                width="stretch",
                alt=f"Largest batch within {budget}. {fit_caption(fits)}",
            )
    st.caption(
        "Open marks are predicted by going through the step without computing it; filled "
        "ones are the largest batch that was measured to fit. The budget covers parameters, batch "
        "and what a step allocates; weights are uniform, as a solver for thousands of objectives "
        "is another question."
    )


def _methods(asked: Asked) -> list[StepMethod]:
    return [method for method in asked.methods if method not in PEERS]


def _key(asked: Asked, method: StepMethod) -> FitKey:
    return FitKey(asked.subject.key, asked.size, method, asked.budget_bytes)


def _predicted(asked: Asked, method: StepMethod) -> int | None:
    with st.spinner("Going through a step of the model in a process of its own…"):
        structure = lab().structure(asked.subject.key, asked.size)
    return largest_batch(structure, method, asked.budget_bytes)


def draw_plan(asked: Asked) -> None:
    """Draws what the engine does with every use of a parameter."""
    try:
        with st.spinner("Building the model in a process of its own and asking the engine…"):
            found = lab().inspection(asked.subject.key, asked.size, asked.batch_size)
    except MeasurementError as error:
        st.error(escaped(str(error)))
        return
    if found.refusal:
        st.error(f"The engine refuses this model. {escaped(found.refusal)}")
    else:
        sentence = _plan_sentence(found.uses, found.objectives)
        st.markdown(sentence)
        st.dataframe(
            plan_table(found.uses),
            hide_index=True,
            width="stretch",
            alt=f"What the engine does with each parameter: {sentence}",
        )
    if found.unused:
        st.warning(
            "The objectives do not reach " + ", ".join(f"`{name}`" for name in found.unused) + "."
        )
    st.caption(
        f"m = {found.objectives:,}, n = {found.parameters:,}. Computed by `Engine.explain` on a "
        "graph of this batch; predicted times follow from the measured rates of this machine."
    )
    if asked.subject.own and st.button("Read the model again", key="engines:forget"):
        lab().forget(asked.subject.key)
        st.rerun()


def _plan_sentence(uses: Sequence[Use], objectives: int) -> str:
    """One sentence on the table below it."""
    general = [use for use in uses if use.rule == "general"]
    ways = Counter(use.contraction for use in uses if use.rule != "general").most_common(2)
    said = f"{len(uses)} uses of parameters"
    if ways:
        said += ", most contracted by " + " and ".join(f"{name} ({n})" for name, n in ways)
    if general:
        names = ", ".join(f"`{use.parameter}`" for use in general[:3])
        more = f" and {len(general) - 3} more" if len(general) > 3 else ""
        return (
            f"{said}; {names}{more} take the exact general path, which costs {objectives:,} "
            "backward passes."
        )
    return f"{said}; none needs the general path."


def draw_own(paths: Sequence[str]) -> None:
    """Says how a model of one's own gets here."""
    with opened("engines:own", "Your own model") as is_open:
        if not is_open:
            return
        st.markdown(
            "A function that takes nothing and returns `(model, inputs, loss_fn)` is enough; "
            "`loss_fn(model(*inputs))` is the tensor of objectives. Only whoever starts the server "
            "chooses what it imports, so start it on your machine, in the folder of your code:"
        )
        st.code(own_command(), language="sh")
        if paths:
            names = ", ".join(f"`{path}`" for path in paths)
            st.caption(f"This server was started with {names}.")
