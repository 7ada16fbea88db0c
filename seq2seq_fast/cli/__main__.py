"""python -m seq2seq_fast.cli"""

import sys

from . import main

sys.exit(main())
