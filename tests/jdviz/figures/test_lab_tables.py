from jdviz.figures import (
    crossover_table,
    fit_table,
    growth_table,
    lab_table,
    plan_table,
)
from jdviz.profiling.results import Use
from tests.jdviz.figures.lab import comparison, crossover, fits, growth


def test_the_step_by_every_method() -> None:
    table = lab_table(comparison())
    assert list(table.columns) == [
        "autogram, fused",
        "autogram, two passes",
        "autojac",
        "plain SGD",
        "torchjd autojac",
    ]
    assert dict(table["autogram, fused"]) == {
        "memory ÷ SGD": "1.50×",
        "peak": "6.00 MiB",
        "peak in": "Gramian",
        "peak at": "conv2 · aten::mm",
        "activations at the peak": "2.00 MiB",
        "Jacobian at the peak": "0 MiB",
        "Gramian at the peak": "1.00 MiB",
        "gradients at the peak": "0 MiB",
        "workspace at the peak": "3.00 MiB",
        "parameters": "1.00 MiB",
        "batch": "0.250 MiB",
        "time ÷ SGD": "2.00×",
        "median time": "4.00 ms",
        "middle half": "3.50 to 4.50 ms",
        "time failed": "–",
        "failed": "–",
    }
    assert table.loc["time failed", "autogram, two passes"] == (
        "autogram, two passes: timed out after 120 s."
    )
    failed = table["torchjd autojac"]
    assert failed["failed"] == "torchjd autojac: out of memory at batch 512, limit 4 GiB."
    assert set(failed.drop("failed")) == {"–"}


def test_the_plan() -> None:
    use = Use("fc.weight", "AddmmBackward0", "linear", "gram", 12_345, 2**20, 0.5, "few positions")
    assert plan_table([use]).to_dict("records") == [
        {
            "parameter": "fc.weight",
            "operation": "AddmmBackward0",
            "rule": "linear",
            "contraction": "gram",
            "multiply-adds": "12,345",
            "workspace": "1.00 MiB",
            "predicted time": "0.500 ms",
            "why": "few positions",
        }
    ]


def test_growth_is_sorted_by_method_and_size() -> None:
    rows = growth_table(growth()[::-1]).to_dict("records")
    assert [(row["method"], row["batch size"]) for row in rows[3:5]] == [
        ("autogram, fused", "64"),
        ("autojac", "1"),
    ]
    assert rows[0]["predicted ÷ measured"] == "1.10×"
    assert rows[-1] == {
        "method": "autojac",
        "batch size": "64",
        "measured": "–",
        "predicted": "64.0 MiB",
        "predicted ÷ measured": "–",
        "failed": "autojac: out of memory at batch 64.",
    }


def test_the_measured_places_of_the_map() -> None:
    *_, dots = crossover()
    assert crossover_table(dots).to_dict("records")[1] == {
        "objectives": "8",
        "parameters": "10,000",
        "autojac ÷ autogram": "3.00×",
        "autojac": "3.00 MiB",
        "autogram": "1.00 MiB",
    }


def test_fits() -> None:
    rows = fit_table(fits()).to_dict("records")
    assert rows[1] == {
        "method": "autojac",
        "budget": "1 GiB",
        "predicted batch": "110",
        "verified batch": "100",
        "does not fit at": "102",
        "error": "+10.0 %",
        "note": "",
    }
    assert (rows[2]["verified batch"], rows[2]["error"]) == ("–", "–")
