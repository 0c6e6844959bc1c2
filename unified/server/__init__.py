"""A server with the interface of OpenAI's: `unified serve`.

`scheduler` and what it is made of (`job`, `running`, `batches`) know no network; `app` and the modules of its
routes know no model. One worker thread owns the model.
"""
