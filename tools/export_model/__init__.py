"""Export a version of a model as files for other programs: `make export-model`.

`graph` builds ONNX, `transformers` and `predictors` say what each class of scikit-learn and of ours becomes,
`converted` puts a model together, `compared` refuses an export that scores otherwise, and `written` writes the folder.
It needs the packages of requirements-export.txt. Nothing here is imported by the product.
"""
