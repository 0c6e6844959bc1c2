"""Published text-to-image and class-to-image models as folders: `unified.load(FOLDER)` and `unified draw
--model FOLDER` of one of them come here. Imports the core and `checkpoints`.

The networks are those of `unified.checkpoints`, written with by the same session, sampler and cache policies
as every other model; texts become features by a T5 encoder of `transformers`. The folder is described in
`unified.text_to_image.folder`, the verb is in `unified.apps.text_to_image`.
"""
