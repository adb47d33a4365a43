"""The small models that the oracles run on are what they claim to be: they run, they match, and every weight shows."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from . import small
from .sessions import axes, run

ARGUMENTS = {"scales", "roi"}
"""Vectors of floats that are arguments of an operator, not weights."""


@pytest.mark.parametrize("name", small.SMALL)
def test_small_model_is_valid_and_reproducible(name):
    model = small.SMALL[name]()
    onnx.checker.check_model(model, full_check=True)
    assert model == small.SMALL[name]()


@pytest.mark.parametrize("name", [name for name in small.SMALL if name not in small.NOT_RUNNABLE])
@pytest.mark.parametrize("batch", [1, 4])
def test_small_model_runs(name, batch):
    model = small.SMALL[name]()
    outputs = run(model, small.samples(model, batch=batch))
    for output, value in zip(outputs, model.graph.output, strict=True):
        assert output.shape == tuple(batch if size == "N" else size for size in axes(value))
        assert np.isfinite(output).all()
        assert 0.05 < output.std() < 20


@pytest.mark.parametrize("name", [name for name in small.SMALL if name not in small.NOT_RUNNABLE])
def test_every_weight_and_every_input_of_a_small_model_shows_in_its_output(name):
    model = small.SMALL[name]()
    feeds = small.samples(model)
    # the negative of an input takes the other branch of an If
    feeds_of = [feeds, {key: -value for key, value in feeds.items()}]
    before = [run(model, each)[0] for each in feeds_of]
    generator = np.random.default_rng(0)
    for key, other in small.samples(model, seed=1).items():
        assert np.abs(run(model, {**feeds, key: other})[0] - before[0]).max() > 1e-2, key
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or not tensor.dims or tensor.name in ARGUMENTS:
            continue
        original = onnx.TensorProto.FromString(tensor.SerializeToString())
        value = numpy_helper.to_array(tensor)
        moved = value + generator.uniform(0.1, 0.3, value.shape).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
        after = [run(model, each)[0] for each in feeds_of]
        assert max(np.abs(one - other).max() for one, other in zip(after, before, strict=True)) > 1e-3, tensor.name
        tensor.CopyFrom(original)


@pytest.mark.parametrize("name", small.NOT_RUNNABLE)
def test_what_is_said_not_to_run_does_not_run(name):
    with pytest.raises(Exception, match=r"com\.acme"):
        run(small.SMALL[name](), {})


@pytest.mark.parametrize(
    ("name", "same_as"),
    [
        ("initializers_as_inputs", "static_opset9"),
        ("constant_nodes", "residual_projection"),
    ],
)
def test_another_spelling_of_the_same_model_computes_the_same(name, same_as):
    model, reference = small.SMALL[name](), small.SMALL[same_as]()
    feeds = small.samples(reference)
    assert small.samples(model).keys() == feeds.keys()
    np.testing.assert_array_equal(run(model, feeds)[0], run(reference, feeds)[0])


def test_initializers_as_inputs_and_constant_nodes_are_spelt_as_they_say():
    model = small.SMALL["initializers_as_inputs"]()
    assert {tensor.name for tensor in model.graph.initializer} < {value.name for value in model.graph.input}
    assert model.ir_version == 3
    model = small.SMALL["constant_nodes"]()
    assert not model.graph.initializer
    assert sum(node.op_type == "Constant" for node in model.graph.node) == 10
