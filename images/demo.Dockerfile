# What the demo needs beside Reembed: a PostgreSQL with pgvector, a server for the model files, a source of queries.
# BASE is what libraries.Dockerfile made of their packages, `models` holds the converted GGUF files. Which of the three
# a pod is, its command says.
ARG BASE

FROM ${BASE}
COPY --from=models . /models
COPY . /opt/reembed/demo
ENV MODELS=/models
USER 10001:10001
CMD ["python", "-m", "demo.model_server"]
