"""`python -m rotvq`."""

from rotvq.cli.main import main

raise SystemExit(main())
