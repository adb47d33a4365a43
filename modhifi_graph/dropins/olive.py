"""The whole job as a pass of Microsoft Olive: an ``ONNXModelHandler`` in, one of the slim file out.

It stands with the exporters, not with the passes, which take graphs: Olive hands over a file, wants one back, and decides
how it is written. Only Olive imports this module, by the path that its package configuration gives. Such a configuration
replaces the default one, so :func:`package_config` adds this pass to Olive's own::

    python -m modhifi_graph.dropins.olive > olive_config.json
    olive run --config workflow.json --package-config olive_config.json

Latency is left to Olive's evaluators. Its cache knows a calibration file by path: after changing the file, clean the cache.
"""

from __future__ import annotations

import json
import logging
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from olive.common.config_utils import ParamCategory, validate_config
from olive.data.config import DataConfig
from olive.hardware.accelerator import AcceleratorSpec
from olive.model import ONNXModelHandler
from olive.model.utils import resolve_onnx_path
from olive.package_config import OlivePackageConfig
from olive.passes import Pass
from olive.passes.onnx.common import get_external_data_config, model_proto_to_olive_model
from olive.passes.pass_config import BasePassConfig, PassConfigParam
from olive.search.search_parameter import Categorical
from pydantic import model_validator

from modhifi_graph.errors import InputError
from modhifi_graph.inputs.image_folders import Preprocess
from modhifi_graph.jobs.optimize import optimize
from modhifi_graph.options import table
from modhifi_graph.options.option import Option
from modhifi_graph.plan import Plan

logger = logging.getLogger(__name__)

CALIBRATION = ("calib", "data_config")

PLAN, REPORT = "modhifi_plan.json", "modhifi_report.json"
"""Additional files, which Olive carries along with the model into the output folder."""

FRACTIONS = tuple(option.name for option in table.BUDGETS)
BUDGETS = (*FRACTIONS, "plan")

ELSEWHERE = (
    "budget",
    *BUDGETS,
    *(goal.name for goal in table.GOALS),
    "backend",
    "bench_seconds",
    "batch",
    "device",
    "mirror",
    "details",
)
"""Options that are given otherwise here, that Olive's evaluators take the place of, or that it has no use for."""

OPTIONS = tuple(option for option in table.OPTIONS if option.name not in ELSEWHERE)
"""What :func:`modhifi_graph.optimize` takes under the same names."""

AS_IN_PYTHON = ("only", "skip", "fold_batchnorm", "reestimate_batchnorm")
"""Described as for Python; the others as for the command line, which is shorter."""

DEPTH = PassConfigParam(
    type_=bool, default_value=False, description="Let whole residual branches go as well; with macs or params."
)


class ModHiFi(Pass):  # type: ignore[misc]
    """Prune an ONNX model to a budget, repair it in closed form and verify it. No labels, gradients or training.

    Give exactly one of macs, params, keep and plan (in mode paper macs, params or rounds). A bad configuration or model is a
    ``ValueError``, which Olive raises at once instead of going on without this pass.
    """

    @classmethod
    def _default_config(cls, accelerator_spec: AcceleratorSpec) -> dict[str, PassConfigParam]:
        return {
            **{option.name: _fraction(option) for option in table.BUDGETS},
            **{option.name: _parameter(option) for option in OPTIONS},
            "depth": DEPTH,
            "plan": PassConfigParam(
                type_=Path | str,
                category=ParamCategory.PATH,
                description=f"Apply this plan instead of a budget: a {PLAN} of an earlier run.",
            ),
            "calib": PassConfigParam(
                type_=Path | str,
                category=ParamCategory.PATH,
                description=table.BY_NAME["calib"].help,
            ),
            "data_config": PassConfigParam(
                type_=DataConfig | dict,
                description="Data config for calibration, instead of calib. Its labels are not read.",
            ),
            **get_external_data_config(),
        }

    @classmethod
    def _validators(cls) -> dict[str, Any]:
        return {"validate_budget": model_validator(mode="after")(_checked)}

    def _run_for_config(
        self, model: ONNXModelHandler, config: BasePassConfig, output_model_path: str
    ) -> ONNXModelHandler:
        path = Path(resolve_onnx_path(output_model_path, Path(model.model_path).name))
        try:
            slim = optimize(model.model_path, calib=_calibration(model, config), bench_seconds=0.0, **_options(config))
        except InputError as error:
            raise ValueError(str(error)) from None
        for warning in slim.report["warnings"]:
            logger.warning(warning)
        result = model_proto_to_olive_model(slim.model, path, config)
        files = {path.with_name(PLAN): slim.plan.to_json(), path.with_name(REPORT): slim.report}
        for file, content in files.items():
            file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        attributes = deepcopy(model.model_attributes) or {}
        attributes["additional_files"] = [*attributes.get("additional_files", []), *map(str, files)]
        result.model_attributes = attributes
        return result


def _fraction(option: Option) -> PassConfigParam:
    """A budget, of which a workflow with a search may list several values; one that is not listed stays unset."""
    return PassConfigParam(type_=float, search_defaults=Categorical([None]), description=option.help)


def _parameter(option: Option) -> PassConfigParam:
    """An option as the table has it."""
    return PassConfigParam(
        type_=option.typed or option.kind,
        default_value=None if option.default == () else option.default,
        description=option.text if option.name in AS_IN_PYTHON else option.help,
    )


def _checked(config: BasePassConfig) -> BasePassConfig:
    """Refuse what cannot work when the workflow is read, before its other passes have spent their time."""
    given = [name for name in (*BUDGETS, *CALIBRATION) if _is_given(getattr(config, name))]
    budgets = [name for name in given if name in BUDGETS]
    if len(budgets) != 1 and not (config.mode == "paper" and not budgets):
        raise ValueError(f"give exactly one of macs, params, keep and plan; given: {', '.join(budgets) or 'none'}")
    if set(CALIBRATION) <= set(given):
        raise ValueError("give calib or data_config, not both")
    return config


def _is_given(value: Any) -> bool:
    return value is not None and not (isinstance(value, Categorical) and value.support == [None])


def _options(config: BasePassConfig) -> dict[str, Any]:
    """The configuration as :func:`modhifi_graph.optimize` takes it."""
    options = {name: getattr(config, name) for name in (*FRACTIONS, *(option.name for option in OPTIONS))}
    return {
        **options,
        "plan": None if config.plan is None else Plan.load(config.plan),
        "only": options["only"] or (),
        "skip": options["skip"] or (),
        "preprocess": None if config.preprocess is None else Preprocess.parse(config.preprocess),
    }


def _calibration(model: ONNXModelHandler, config: BasePassConfig) -> Any:
    """What was given to calibrate with; the batches of a data config are joined into one array for every input."""
    if config.data_config is None:
        return config.calib
    container = validate_config(config.data_config, DataConfig).to_data_container()
    batches = list(container.create_calibration_dataloader(model.model_path, model.io_config))
    if not batches:
        raise InputError("data_config: holds no batches; expected at least one")
    arrays = {}
    for name, first in batches[0].items():
        try:
            arrays[name] = np.concatenate([batch[name] for batch in batches]) if first.ndim else first
        except ValueError as error:
            raise InputError(f"data_config: the batches of {name} are not of one shape: {error}; pad them") from error
    return arrays


def package_config() -> dict[str, Any]:
    """Olive's package configuration with this pass added, for ``olive.workflows.run(..., package_config=...)``."""
    config: dict[str, Any] = json.loads(Path(OlivePackageConfig.get_default_config_path()).read_text(encoding="utf-8"))
    config["passes"]["ModHiFi"] = {
        "module_path": "modhifi_graph.dropins.olive.ModHiFi",
        "supported_providers": ["*"],
        "supported_accelerators": ["*"],
        "supported_precisions": ["*"],
        "supported_algorithms": [],
        "supported_quantization_encodings": [],
        "module_dependencies": ["modhifi-graph"],
        "dataset": "dataset_optional",
    }
    return config


if __name__ == "__main__":
    print(json.dumps(package_config(), indent=2))
