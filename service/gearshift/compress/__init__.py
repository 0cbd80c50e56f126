"""Making variants: fetch the data, train, compress, export, measure, publish.

Everything that needs a training framework lives here and nowhere else. Importing this
package imports neither torch nor scikit-learn; `gearshift.compress.build` loads them when
a model is actually built.
"""
