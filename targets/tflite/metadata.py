"""What the file says of itself, where Android's tooling reads it: TFLite's model metadata.

The support library's classes of it make it and read it back. LiteRT's own put it into the file: the library would write
the whole model anew by a schema of 2023 and leave out what it does not know, and asks for libusb.
"""

import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from images.inside.contract import Exporting
from images.inside.records import Source
from images.inside.text import TOKENIZER

FIELD, IDENTIFIER = "TFLITE_METADATA", b"M001"
"""The name in the model by which readers find it, and what its bytes begin with."""
PARSER = "1.0.0"
"""The least version of a parser that reads what is made here: what the library works out for it."""
LABELS = "labels.txt"
FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---", re.DOTALL)
LICENSE = re.compile(r"^license:[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)


def write(file: Path, given: Exporting, source: Source) -> None:
    """Put the metadata into a model and pack the files behind it; what loads the model does not look there."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    files = _files(given, source)
    model = flatbuffer_utils.read_model(file)
    buffer, field = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(_made(given, source, model, list(files)), np.uint8)
    field.name, field.buffer = FIELD, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), field]
    flatbuffer_utils.write_model(model, file)
    with zipfile.ZipFile(file, "a") as packed:
        for name, content in files.items():
            packed.writestr(zipfile.ZipInfo(name), content)  # without the time of day, which would change the digest


def files_in(file: Path) -> int:
    """How many files are packed behind a model. Raises `ValueError` when they are not those that its metadata names."""
    about = read(file)
    named = [each.name.decode() for each in about.associatedFiles or []]
    for tensor in about.subgraphMetadata[0].outputTensorMetadata:
        named += [each.name.decode() for each in tensor.associatedFiles or []]
    packed = zipfile.ZipFile(file).namelist() if zipfile.is_zipfile(file) else []
    if sorted(named) != sorted(packed):
        raise ValueError(f"the metadata names {', '.join(named)}; packed are {', '.join(packed)}")
    return len(packed)


def read(file: Path) -> Any:
    """A model's metadata as the library's `ModelMetadataT`."""
    from ai_edge_litert.tools import flatbuffer_utils
    from tensorflow_lite_support.metadata import metadata_schema_py_generated as schema

    model = flatbuffer_utils.read_model(file)
    (place,) = [field.buffer for field in model.metadata if field.name == FIELD.encode()]
    found = schema.ModelMetadata.GetRootAsModelMetadata(bytes(model.buffers[place].data), 0)
    return schema.ModelMetadataT.InitFromObj(found)


def license_of(model: Path) -> str:
    """What the model's card says in its front matter; empty when it says nothing."""
    card = model / "README.md"
    front = FRONT_MATTER.match(card.read_text(errors="replace")) if card.is_file() else None
    found = LICENSE.search(front[1]) if front else None
    return found[1].strip("\"'") if found else ""


def _files(given: Exporting, source: Source) -> Mapping[str, bytes]:
    """What an app needs beside the model, by name: the tokenizer as the exporter's artifact has it, class names."""
    tokenizer = given.work / TOKENIZER
    return {
        **({TOKENIZER: tokenizer.read_bytes()} if tokenizer.is_file() else {}),
        **({LABELS: "".join(f"{label}\n" for label in source.labels).encode()} if source.labels else {}),
    }


def _made(given: Exporting, source: Source, model: Any, files: Sequence[str]) -> bytes:
    from tensorflow_lite_support.metadata import metadata_schema_py_generated as schema

    about = schema.ModelMetadataT()
    about.name, about.version = given.source.model.id, given.source.model.revision or given.source.model.digest
    about.description = _description(given, model)
    about.license = license_of(given.model)
    about.subgraphMetadata = [_tensors(schema, model, source)]
    about.associatedFiles = [_file(schema, TOKENIZER, "Tokenizer, as Hugging Face's tokenizers reads it")] * (
        TOKENIZER in files
    )
    about.minParserVersion = PARSER
    return _packed(about)


def _description(given: Exporting, model: Any) -> str:
    names = ", ".join(signature.signatureKey.decode() for signature in model.signatureDefs)
    return f"{given.source.task}, quantisation {given.job.mode}; signatures: {names}"


def _tensors(schema: Any, model: Any, source: Source) -> Any:
    """The first signature's inputs and outputs, in the order that its graph has; the format has room for one."""
    signature, graph = model.signatureDefs[0], model.subgraphs[model.signatureDefs[0].subgraphIndex]
    about = schema.SubGraphMetadataT()
    about.name = signature.signatureKey.decode()
    about.inputTensorMetadata = _named(schema, signature.inputs, graph.inputs)
    about.outputTensorMetadata = _named(schema, signature.outputs, graph.outputs)
    if source.labels:
        kind = schema.AssociatedFileType.TENSOR_AXIS_LABELS
        about.outputTensorMetadata[0].associatedFiles = [_file(schema, LABELS, "Class names by index", kind)]
    return about


def _named(schema: Any, known: Any, order: Sequence[int]) -> list[Any]:
    names = {int(each.tensorIndex): each.name.decode() for each in known}
    found = [schema.TensorMetadataT() for _ in order]
    for tensor, place in zip(found, order, strict=True):
        tensor.name = names.get(int(place), "")
    return found


def _file(schema: Any, name: str, description: str, kind: int = 0) -> Any:
    made = schema.AssociatedFileT()
    made.name, made.description, made.type = name, description, kind
    return made


def _packed(about: Any) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(0)
    builder.Finish(about.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())
