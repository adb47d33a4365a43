"""What a finished model is worth, as a command of the user's says."""

from __future__ import annotations

import json
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx

from modhifi_graph.errors import InputError
from modhifi_graph.exporters import onnxruntime as backend

Score = Callable[[onnx.ModelProto], float]


def command_score(command: str, key: str | None) -> Score:
    """Rate a model by a command that prints a number, or JSON with ``key``, last on its standard output."""
    if "{}" not in command:
        raise InputError(f"--score is {command!r}; expected {{}} where the path of the model belongs")

    def rate(proto: onnx.ModelProto) -> float:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "slim.onnx"
            backend.save(proto, path)
            done = subprocess.run(
                command.replace("{}", shlex.quote(str(path))), shell=True, capture_output=True, text=True, check=False
            )
        if done.returncode:
            raise InputError(f"--score exited with {done.returncode}: {done.stderr.strip()[-500:]}")
        return parsed(done.stdout, key)

    return rate


def parsed(output: str, key: str | None = None) -> float:
    """The number in the last line of an output: by itself, or in a JSON object under ``key``."""
    lines = output.strip().splitlines() or [""]
    try:
        value = json.loads(lines[-1])
        if isinstance(value, dict):
            if key is None:
                numbers = [name for name, number in value.items() if isinstance(number, int | float)]
                raise InputError(f"--score printed JSON; give --key, one of {', '.join(numbers)}")
            value = value[key]
        return float(value)
    except (ValueError, TypeError, KeyError) as error:
        what = "a number" if key is None else f"JSON with the number {key!r}"
        raise InputError(f"--score printed {lines[-1][:200]!r} last; expected {what}") from error
