import numpy as np
import pytest

from modhifi_graph import samples

MEBIBYTE = 2**20


def test_names_are_the_models_there_are():
    load_all = [samples.load(name) for name in samples.names()]
    assert samples.names() == ("digits-cnn", "digits-vit")
    assert [sample.path.name for sample in load_all] == ["digits-cnn.onnx", "digits-vit.onnx"]


def test_everything_together_stays_under_three_mebibytes():
    folder = samples.load("digits-cnn").path.parent
    stored = [file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    assert {"digits-cnn.onnx", "digits-vit.onnx", "digits.npz", "README.md"} <= {file.name for file in stored}
    assert sum(file.stat().st_size for file in stored) <= 3 * MEBIBYTE


@pytest.mark.parametrize("name", samples.names())
def test_shapes_types_and_ranges(name):
    sample = samples.load(name)
    assert list(sample.calib) == ["image"]
    assert sample.calib["image"].shape == (500, 1, 32, 32)
    assert sample.test.shape == (600, 1, 32, 32)
    assert sample.labels.shape == (600,)
    assert (sample.calib["image"].dtype, sample.test.dtype, sample.labels.dtype) == (np.float32, np.float32, np.int64)
    assert (sample.test.min(), sample.test.max()) == (0.0, 1.0)


def test_every_digit_is_judged_and_no_test_image_is_calibrated_on():
    sample = samples.load("digits-cnn")
    counts = np.bincount(sample.labels, minlength=10)
    assert counts.min() >= 58
    assert counts.max() <= 61
    seen = {image.tobytes() for image in sample.calib["image"]}
    assert not [image for image in sample.test if image.tobytes() in seen]


def test_prefix_means_the_same_sample():
    assert samples.load("sample:digits-vit").path == samples.load("digits-vit").path
    assert samples.load("sample:digits-vit").name == "digits-vit"


@pytest.mark.parametrize("name", ["digits", "sample:", "sample:resnet", ""])
def test_unknown_name_lists_those_there_are(name):
    with pytest.raises(ValueError, match="there are: digits-cnn, digits-vit") as error:
        samples.load(name)
    assert repr(name) in str(error.value)


def test_upscaling_is_bilinear_between_pixel_centres():
    found = samples.upscale(np.array([[[0, 16]]], np.uint8))
    row = [0.0, 0.0, 0.125, 0.375, 0.625, 0.875, 1.0, 1.0]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.tile(np.float32(row), (1, 1, 4, 1)))


def test_upscaling_treats_both_axes_alike_and_keeps_constants_and_means():
    pixels = np.random.default_rng(0).integers(0, 17, (3, 8, 8)).astype(np.uint8)
    np.testing.assert_array_equal(samples.upscale(pixels.transpose(0, 2, 1)), samples.upscale(pixels).swapaxes(2, 3))
    np.testing.assert_array_equal(samples.upscale(np.full((1, 8, 8), 4, np.uint8)), np.full((1, 1, 32, 32), 0.25))
    np.testing.assert_array_equal(samples.upscale(pixels).mean(axis=(1, 2, 3)), pixels.mean(axis=(1, 2)) / 16)


def test_accuracy_is_the_percentage_of_largest_logits_that_are_right():
    sample = samples.load("digits-cnn")
    always_three = samples.accuracy(lambda images: np.tile(np.eye(10)[3], (len(images), 1)), sample)
    assert always_three == pytest.approx(100 * np.mean(sample.labels == 3))


@pytest.mark.parametrize("name", samples.names())
def test_accuracy_in_onnxruntime(name):
    sample = samples.load(name)
    session = _session(sample)
    assert samples.accuracy(lambda images: session.run(["logits"], {"image": images})[0], sample) > 97.0


@pytest.mark.parametrize("name", samples.names())
def test_batch_is_dynamic_and_images_do_not_mix(name):
    sample = samples.load(name)
    session = _session(sample)
    assert [(value.name, value.shape) for value in session.get_inputs()] == [("image", ["batch", 1, 32, 32])]
    assert [(value.name, value.shape) for value in session.get_outputs()] == [("logits", ["batch", 10])]
    together = session.run(None, {"image": sample.test[:3]})[0]
    apart = np.concatenate([session.run(None, {"image": sample.test[i : i + 1]})[0] for i in range(3)])
    np.testing.assert_allclose(together, apart, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "some"),
    [
        ("digits-cnn", {"Conv": 11, "BatchNormalization": 11, "Add": 4, "GlobalAveragePool": 1}),
        ("digits-vit", {"LayerNormalization": 7, "Softmax": 3, "Erf": 3}),
    ],
)
def test_graph_has_the_structures_the_sample_is_there_to_show(name, some):
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(samples.load(name).path).graph
    operators = [node.op_type for node in graph.node]
    assert {operator: operators.count(operator) for operator in some} == some


def test_vit_projects_queries_keys_and_values_at_once():
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(samples.load("digits-vit").path).graph
    assert [list(weight.dims) for weight in graph.initializer].count([80, 240]) == 3


def _session(sample):
    onnxruntime = pytest.importorskip("onnxruntime")
    return onnxruntime.InferenceSession(sample.path, providers=["CPUExecutionProvider"])
