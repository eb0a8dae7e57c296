"""``python -m googlenet_deploy COMMAND``, the same as ``googlenet-deploy COMMAND``."""

import sys

from googlenet_deploy.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
