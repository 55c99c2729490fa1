import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.bounds import FORMULAS, closed_form
from benchmarks.cases import Case
from engines.autogram import Engine
from jdviz.problems.subjects import Built
from jdviz.profiling import MeasurementError
from tests.benchmarks.tiny import attention

TINY = Case("tests.benchmarks.tiny:TINY")


def built_of(model, inputs):
    return Built(model, lambda: model(inputs).flatten(1).sum(1), (inputs,))


def test_a_grouped_convolution_is_counted_by_hand():
    # 2 samples of 3×3 positions, each with the 6·2·9 weights: 1944 forward, and again for the
    # weight's gradient; the images need none.
    model = nn.Conv2d(4, 6, 3, groups=2)
    assert closed_form(built_of(model, torch.randn(2, 4, 5, 5)), 0).sgd_multiply_adds == 2 * 1944


def test_a_transposed_convolution_is_counted_by_hand():
    # 2 samples of 5×5 positions, each with the 4·3·9 weights.
    model = nn.ConvTranspose2d(4, 6, 3, groups=2)
    assert closed_form(built_of(model, torch.randn(2, 4, 5, 5)), 0).sgd_multiply_adds == 2 * 5400


def test_attention_is_counted_by_hand():
    torch.manual_seed(0)
    model, inputs = attention(), torch.randn(2, 4, 8, requires_grad=True)
    with FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
        model(inputs).sum().backward()
    # 2·4 rows through 8·(24 + 8 + 16 + 16) weights, three times; 2 products of 2·4·4·8 forward
    # and 4 backward. Two operations for each.
    assert counter.get_total_flops() == 2 * (3 * 8 * 8 * 64 + 6 * 256)


def test_the_bound_takes_the_cheaper_form_of_every_use():
    _, built = TINY.build()
    uses = Engine(built.model, batch_dim=0).explain(built.losses())
    bound = closed_form(built, 0)
    assert bound.contraction_multiply_adds == sum(
        min([use.flops, *(flops for _, flops in use.alternatives)]) for use in uses
    )
    assert bound.ratio == 1 + bound.contraction_multiply_adds / bound.sgd_multiply_adds


def test_a_model_that_the_engine_refuses_is_one_sentence():
    subject, built = Case("tests.benchmarks.tiny:MIXING").build()
    with pytest.raises(MeasurementError, match="The engine refuses the model: BatchMixedError"):
        closed_form(built, subject.batch_dim)
