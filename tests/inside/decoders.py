"""A tiny real decoder as ONNX, with either kind of cache, and the same network in numpy: what its logits have to be."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from images.inside.contract import FloatArray

LAYERS, HEADS, SIZE = 2, 2, 8
WIDTH = HEADS * SIZE
POSITIONS = 4096
CONTRIB = "com.microsoft"
KINDS = ("concatenated", "shared")


def weights(vocabulary: int) -> dict[str, FloatArray]:
    """Random, always the same; positions and the past weigh as much as the last token."""
    chance = np.random.default_rng(7)
    shapes = {"tokens": (vocabulary, WIDTH), "places": (POSITIONS, WIDTH), "head": (WIDTH, vocabulary)}
    shapes |= {f"{part}{layer}": (WIDTH, WIDTH) for layer in range(LAYERS) for part in "qkvo"}
    scale = {"q": 0.4, "k": 0.4, "v": 0.4, "o": 0.8}
    return {
        name: chance.normal(0, scale.get(name[0] if name[1:].isdigit() else "", 1), shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def logits(ids: Sequence[int], vocabulary: int) -> FloatArray:
    """What the network says behind every token, [tokens, vocabulary]."""
    known, count = weights(vocabulary), len(ids)
    state = known["tokens"][list(ids)] + known["places"][:count]
    future = np.triu(np.full((count, count), -np.inf), 1)
    for layer in range(LAYERS):
        query, key, value = (
            (state @ known[f"{part}{layer}"]).reshape(count, HEADS, SIZE).swapaxes(0, 1) for part in "qkv"
        )
        scores = query @ key.swapaxes(1, 2) / math.sqrt(SIZE) + future
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = (shares / shares.sum(axis=-1, keepdims=True)) @ value
        state = np.tanh(state + mixed.swapaxes(0, 1).reshape(count, WIDTH) @ known[f"o{layer}"])
    said: FloatArray = (state @ known["head"]).astype(np.float32)
    return said


def write(file: Path, kind: str, vocabulary: int, *, last_only: bool = False, late: int = 0) -> Path:
    """Write the decoder.

    Args:
        file: where.
        kind: how it holds its cache, which its metadata says.
        vocabulary: how many tokens there are.
        last_only: whether it gives the logits behind the last token only.
        late: a planted fault: by how much positions are wrong as soon as there is a past.

    """
    made = _Graph(weights(vocabulary))
    made.begin(shared=kind == "shared", late=late)
    for layer in range(LAYERS):
        made.layer(layer, shared=kind == "shared")
    made.end(last_only=last_only)
    model = made.model(vocabulary, shared=kind == "shared", last_only=last_only)
    helper.set_model_props(model, {"modelyard.cache": kind})
    onnx.save(model, file)
    return file


class _Graph:
    """Nodes in the order in which they run."""

    def __init__(self, constants: Mapping[str, Any]) -> None:
        self.nodes: list[Any] = []
        self.constants = dict(constants)

    def add(self, kind: str, inputs: str, output: str, **attributes: Any) -> str:
        """One operation."""
        self.nodes.append(helper.make_node(kind, inputs.split(","), output.split(","), **attributes))
        return output

    def number(self, *values: int) -> str:
        """A constant of int64."""
        name = "n_" + "_".join(map(str, values))
        self.constants[name] = np.array(values, np.int64)
        return name

    def begin(self, *, shared: bool, late: int) -> None:
        """Tokens and positions to the first state."""
        places = self._places() if shared else "position_ids"
        if late:
            past = self.add("Sub", "all,new", "past_tokens") if shared else self._past_tokens()
            self.add("Mul", f"{self.add('Min', f'{past},{self.number(1)}', 'has_past')},{self.number(late)}", "late")
            places = self.add("Add", f"{places},late", "late_places")
        self.add(
            "Add", f"{self.add('Gather', 'tokens,input_ids', 't')},{self.add('Gather', f'places,{places}', 'p')}", "s0"
        )

    def _past_tokens(self) -> str:
        return self.add("Shape", "past_key_values.0.key", "past_tokens", start=2, end=3)

    def _places(self) -> str:
        """A row's length is in its mask; the new tokens are its last."""
        self.add("ReduceSum", f"attention_mask,{self.number(1)}", "all", keepdims=1)
        self.add("Shape", "input_ids", "new", start=1, end=2)
        zero, one = "zero", "one"
        self.constants |= {zero: np.array(0, np.int64), one: np.array(1, np.int64)}
        self.add("Squeeze", "new", "new_scalar")
        steps = self.add("Range", f"{zero},new_scalar,{one}", "steps")
        return self.add("Add", f"{self.add('Sub', 'all,new', 'before')},{steps}", "own_places")

    def layer(self, layer: int, *, shared: bool) -> None:
        """Attention, and what it adds to the state."""
        for part in "qkv":
            self.add("MatMul", f"s{layer},{part}{layer}", f"{part}_{layer}")
        (self._in_place if shared else self._concatenated)(layer)
        self.add("MatMul", f"mixed_{layer},o{layer}", f"added_{layer}")
        self.add("Add", f"s{layer},added_{layer}", f"sum_{layer}")
        self.add("Tanh", f"sum_{layer}", f"s{layer + 1}")

    def _in_place(self, layer: int) -> None:
        if not layer:
            self.add("Sub", f"all,{self.number(1)}", "last")
            self.add("Cast", "last", "last_32", to=TensorProto.INT32)
            self.add(
                "Cast", self.add("Shape", "attention_mask", "wide", start=1, end=2), "wide_32", to=TensorProto.INT32
            )
            self.add("Squeeze", "wide_32", "width")
        past, present = f"past_key_values.{layer}", f"present.{layer}"
        self.add(
            "GroupQueryAttention",
            f"q_{layer},k_{layer},v_{layer},{past}.key,{past}.value,last_32,width",
            f"mixed_{layer},{present}.key,{present}.value",
            domain=CONTRIB,
            num_heads=HEADS,
            kv_num_heads=HEADS,
            local_window_size=-1,
        )

    def _concatenated(self, layer: int) -> None:
        rows = self.number(0, -1, HEADS, SIZE)
        for part in "qkv":
            self.add("Reshape", f"{part}_{layer},{rows}", f"{part}r_{layer}")
            self.add("Transpose", f"{part}r_{layer}", f"{part}t_{layer}", perm=[0, 2, 1, 3])
        past, present = f"past_key_values.{layer}", f"present.{layer}"
        self.add("Concat", f"{past}.key,kt_{layer}", f"{present}.key", axis=2)
        self.add("Concat", f"{past}.value,vt_{layer}", f"{present}.value", axis=2)
        if not layer:
            self._seen()
        self.constants["scale"] = np.array(1 / math.sqrt(SIZE), np.float32)
        turned = self.add("Transpose", f"{present}.key", f"turned_{layer}", perm=[0, 1, 3, 2])
        scores = self.add("MatMul", f"qt_{layer},{turned}", f"scores_{layer}")
        masked = self.add("Add", f"{self.add('Mul', f'{scores},scale', f'scaled_{layer}')},unseen", f"masked_{layer}")
        shares = self.add("Softmax", masked, f"shares_{layer}", axis=-1)
        mixed = self.add("MatMul", f"{shares},{present}.value", f"heads_{layer}")
        self.add("Transpose", mixed, f"back_{layer}", perm=[0, 2, 1, 3])
        self.add("Reshape", f"back_{layer},{self.number(0, -1, WIDTH)}", f"mixed_{layer}")

    def _seen(self) -> None:
        """What a token sees: itself and what is before it, padding left out."""
        self.constants |= {"zero": np.array(0, np.int64), "one": np.array(1, np.int64)}
        self.constants |= {"hidden": np.array(-1e9, np.float32), "open": np.array(0, np.float32)}
        self.add("Squeeze", self.add("Shape", "attention_mask", "wide", start=1, end=2), "width")
        self.add("Squeeze", self.add("Shape", "input_ids", "new", start=1, end=2), "count")
        columns = self.add("Range", "zero,width,one", "columns")
        lines = self.add("Range", f"{self.add('Sub', 'width,count', 'first')},width,one", "lines")
        self.add("LessOrEqual", f"{columns},{self.add('Unsqueeze', f'{lines},{self.number(1)}', 'down')}", "before_it")
        self.add(
            "Cast", self.add("Unsqueeze", f"attention_mask,{self.number(1, 2)}", "masks"), "real", to=TensorProto.BOOL
        )
        self.add("Where", f"{self.add('And', 'before_it,real', 'seen')},open,hidden", "unseen")

    def end(self, *, last_only: bool) -> None:
        """The last state to logits."""
        state = f"s{LAYERS}"
        if last_only:
            ends = f"{self.number(-1)},{self.number(1 << 30)},{self.number(1)}"
            state = self.add("Slice", f"{state},{ends}", "last_state")
        self.add("MatMul", f"{state},head", "logits")

    def model(self, vocabulary: int, *, shared: bool, last_only: bool) -> Any:
        """The whole model, checked."""
        given = {"input_ids": ["rows", "new"], "attention_mask": ["rows", "width"]}
        given |= {} if shared else {"position_ids": ["rows", "new"]}
        inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name, shape in given.items()]
        outputs = [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 1 if last_only else "new", vocabulary])
        ]
        for cache, tensors in (("past_key_values", inputs), ("present", outputs)):
            names = [f"{cache}.{layer}.{part}" for layer in range(LAYERS) for part in ("key", "value")]
            shape = ["rows", HEADS, cache, SIZE]
            tensors += [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in names]
        constants = [numpy_helper.from_array(np.asarray(array), name) for name, array in self.constants.items()]
        graph = helper.make_graph(self.nodes, "decoder", inputs, outputs, constants)
        versions = [helper.make_opsetid("", 18), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=versions, ir_version=10)
