"""Training-data attribution for diffusion models, checked against retraining.

One convention for every score in this package::

    score[query, unit] = measurement of the query without the unit - measurement with it

A *query* is an image asked about; a *unit* is a training image or a group of them (class,
artist, contributor). The *measurement* is a loss, so a **positive score means the unit helped**:
without it, the model explains the query worse. The unit of the measurement stands in the array's
attributes. What cannot be written in this form (a distance, a similarity) is not called a score,
or says ``signed: false``.
"""
