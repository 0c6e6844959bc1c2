"""A page for browsers on the server's model: `unified page`, or `unified serve --page` (extra `web`).

`page` puts the tabs together and adds them to the server's application; each module of `tabs` is one tab.
They call the assistant on the model's thread (`errand`, `Service.call`) or submit jobs as the routes do.
`store` keeps conversations and votes.
"""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # gradio reads them when it is imported
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
