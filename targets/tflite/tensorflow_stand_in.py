"""A stand-in for TensorFlow, of which litert-torch's exporter of decoders imports one generated module, undeclared.

LiteRT brings the same module, made of the same schema. So the exporter needs no second framework of 600 MB.
"""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

SCHEMA = "schema_py_generated"
PACKAGES = ("tensorflow", "tensorflow.lite", "tensorflow.lite.python")


def install() -> None:
    """Let `from tensorflow.lite.python import schema_py_generated` import LiteRT's."""
    from ai_edge_litert import schema_py_generated

    for name in PACKAGES:
        package = ModuleType(name, __doc__)
        package.__path__ = []
        package.__spec__ = ModuleSpec(name, None, is_package=True)
        sys.modules[name] = package
    setattr(sys.modules[PACKAGES[-1]], SCHEMA, schema_py_generated)
    sys.modules[f"{PACKAGES[-1]}.{SCHEMA}"] = schema_py_generated
