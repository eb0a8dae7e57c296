"""Prints, as JSON, which names of VERSION_BOUND these bindings have, and their data types.

Runs on Python 3.10 and bare.
"""

import importlib
import json
import sys

from googlenet_deploy.device.tensorrt.names import VERSION_BOUND

module = importlib.import_module(sys.argv[1])
found = {}
for bound in VERSION_BOUND:
    owner = getattr(module, bound.owner, None) if bound.owner else module
    found[bound.owner + "." + bound.name] = hasattr(owner, bound.name)
types = list(module.DataType.__members__)
print(json.dumps({"version": module.__version__, "names": found, "types": types}))
