"""What the main job takes: it gives the same kind back, and leaves what it was given as it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from modhifi_graph.models.opening import open_model

from ..oracles import small
from .quick import feeds, model, quick, run, serialised


class TestSources:
    def test_a_path_gives_a_proto(self, tmp_path: Path) -> None:
        onnx.save(model(), tmp_path / "model.onnx")
        expected = serialised(quick().model)
        for source in (tmp_path / "model.onnx", str(tmp_path / "model.onnx")):
            result = quick(source)
            assert isinstance(result.model, onnx.ModelProto)
            assert serialised(result.model) == expected
        assert serialised(onnx.load(tmp_path / "model.onnx")) == serialised(model())

    def test_a_proto_gives_a_proto(self) -> None:
        mine = small.SMALL["conv_chain"]()
        before = serialised(mine)
        result = quick(mine)
        assert isinstance(result.model, onnx.ModelProto)
        assert serialised(mine) == before != serialised(result.model)

    def test_an_ir_model_gives_one(self) -> None:
        mine = ir.from_proto(model())
        before = serialised(ir.to_proto(mine))
        result = quick(mine)
        assert isinstance(result.model, ir.Model)
        assert result.model is not mine
        assert serialised(ir.to_proto(mine)) == before
        found = run(ir.to_proto(result.model), feeds())
        np.testing.assert_array_equal(found["y"], run(quick().model, feeds())["y"])

    def test_a_graphsurgeon_graph_gives_one(self) -> None:
        graphsurgeon = pytest.importorskip("onnx_graphsurgeon")
        mine = graphsurgeon.import_onnx(model())
        before = serialised(graphsurgeon.export_onnx(mine))
        result = quick(mine)
        assert isinstance(result.model, graphsurgeon.Graph)
        assert serialised(graphsurgeon.export_onnx(mine)) == before
        found = run(graphsurgeon.export_onnx(result.model), feeds())
        np.testing.assert_array_equal(found["y"], run(quick().model, feeds())["y"])

    def test_external_data(self, tmp_path: Path) -> None:
        copy = onnx.ModelProto.FromString(model().SerializeToString())  # saving empties the tensors
        onnx.save(copy, tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
        assert (tmp_path / "weights.bin").stat().st_size > 1000
        result = quick(tmp_path / "model.onnx")
        assert serialised(result.model) == serialised(quick().model)
        assert not any(tensor.external_data for tensor in result.model.graph.initializer)

    def test_a_fixed_batch_of_one(self) -> None:
        fixed = small.build(small.CONVOLUTIONS["conv_chain"].replace("float[N,", "float[1,"))
        result = quick(fixed)
        assert [d.dim_value for d in result.model.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 8, 8]
        assert result.report["macs"]["after"] <= 0.5 * result.report["macs"]["before"]
        assert result.report["fidelity"] > 0.8
        assert result.report["fidelity"] == pytest.approx(quick().report["fidelity"], abs=0.02)

    def test_saving_is_what_was_returned(self, tmp_path: Path) -> None:
        result = quick()
        result.save(tmp_path / "slim.onnx")
        assert serialised(onnx.load(tmp_path / "slim.onnx")) == serialised(result.model)
        assert open_model(tmp_path / "slim.onnx").label.endswith("slim.onnx")
