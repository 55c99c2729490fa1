"""A comparison as a Python script that measures again."""

from collections.abc import Iterator, Sequence
from string import Template

from jdviz.problems.own import is_own
from jdviz.profiling.results import Comparison
from jdviz.profiling.spec import PEERS, MeasureSpec

_SCRIPT = Template('''\
"""Measures again what jdviz measured, and says whether the bytes agree.

Run it with `python`, where jdviz is installed or on PYTHONPATH.
"""

$notes
from statistics import median

from jdviz.profiling import METHOD_LABELS, Limits, MeasureSpec, available_bytes, compare

# How often each step is timed; 0 leaves times out.
ROUNDS = $rounds

# Each step, and the bytes of its peak as recorded; None where there are none.
RECORDED = (
$recorded
)


def verdict(found_bytes: int, recorded_bytes: int | None) -> str:
    """Says whether a peak is the recorded one."""
    if recorded_bytes is None:
        return "nothing to compare with"
    if found_bytes == recorded_bytes:
        return "agrees to the byte"
    return f"differs by {found_bytes - recorded_bytes:+,} bytes from {recorded_bytes:,}"


def main() -> None:
    """Measures every step in a process of its own and prints a row for each."""
    limits = Limits(memory_bytes=available_bytes())
    found = compare([spec for spec, _ in RECORDED], rounds=ROUNDS, limits=limits)
    durations_ms = {} if found.times is None else found.times.durations_ms
    measured = {one.spec: one for one in found.measurements}
    print(f"{'method':<22}{'batch':>7}{'peak, bytes':>17}{'time, ms':>11}  and the record")
    for spec, recorded_bytes in RECORDED:
        row = f"{METHOD_LABELS[spec.method]:<22}{spec.batch_size:>7,}"
        if spec not in measured:
            known = "nothing" if recorded_bytes is None else f"{recorded_bytes:,} bytes"
            print(f"{row}{'no result':>17}{'':>11}  {known} recorded")
            continue
        peak_bytes = measured[spec].peak_bytes
        taken = durations_ms.get(spec.method)
        shown = f"{median(taken):.3g}" if taken else ""
        print(f"{row}{peak_bytes:>17,}{shown:>11}  {verdict(peak_bytes, recorded_bytes)}")
    for failure in found.failures:
        print(failure.sentence)
    if found.times is not None and found.times.disturbed:
        print(found.times.disturbed)


if __name__ == "__main__":
    main()
''')


def as_script(measured: Comparison | Sequence[MeasureSpec]) -> str:
    """A script that repeats measurements with what `jdviz.profiling` offers everyone.

    Args:
        measured: A comparison; or steps of which nothing is recorded yet, to be measured without
            times.

    Returns:
        The text of the script. It prints a row for each step, says whether its peak is the
        recorded one, and allows no more memory than is free.
    """
    if isinstance(measured, Comparison):
        recorded = [(one.spec, one.peak_bytes) for one in measured.measurements]
        known = {spec for spec, _ in recorded}
        missing = [one.spec for one in measured.failures if one.spec not in known]
        timed = () if measured.times is None else measured.times.durations_ms.values()
        rounds = max(map(len, timed), default=0)
    else:
        recorded, missing, rounds = [], list(measured), 0
    # What a representation holds is quoted and escaped, whatever the name of a problem is.
    rows = [*(f"    ({one!r}, {peak!r})," for one, peak in recorded)]
    rows += [f"    ({one!r}, None)," for one in missing]
    specs = [*(spec for spec, _ in recorded), *missing]
    notes = "\n".join(f"# {note}" for note in _notes(measured, specs))
    return _SCRIPT.substitute(notes=notes, rounds=rounds, recorded="\n".join(rows))


def _notes(
    measured: Comparison | Sequence[MeasureSpec], specs: Sequence[MeasureSpec]
) -> Iterator[str]:
    """What whoever runs the script should know, one line each."""
    if isinstance(measured, Comparison) and measured.measurements:
        yield "Recorded with the following; other versions or threads may take other bytes."
        for name, text in measured.measurements[0].machine.items():
            yield f"  {ascii(name)[1:-1]}: {ascii(text)[1:-1]}"
    for problem in dict.fromkeys(spec.problem for spec in specs if is_own(spec.problem)):
        yield f"The module of {problem!a} is looked for on PYTHONPATH and in this folder."
    if any(spec.method in PEERS for spec in specs):
        yield "Some methods are those of torchjd: pip install torchjd."
