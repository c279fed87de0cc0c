"""Prints, as JSON, what PyTorch there is in this Python and what it sees."""

import glob
import json
import os
import platform
import sys

found = {"python": platform.python_version(), "path": sys.executable}
try:
    import torch

    found["torch"] = torch.__version__
    found["cuda"] = torch.version.cuda
    found["available"] = torch.cuda.is_available()
    if found["available"]:
        found["devices"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        found["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
    packages = os.path.dirname(os.path.dirname(torch.__file__))
    libraries = glob.glob(os.path.join(packages, "nvidia", "*", "lib", "libnccl.so.2"))
    found["library"] = libraries[0] if libraries else None
except ImportError as error:
    found["missing"] = str(error)
print(json.dumps(found))
