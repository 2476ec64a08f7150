# llama-cpp-python's wheel for the images, where the machine's own C library is newer than Debian 12's or the machine is
# no Linux: what is built there would not load here. The context holds the sources and the tools to build them.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
RUN apt-get update -q && apt-get install -q -y --no-install-recommends g++ make \
 && { command -v pip3 >/dev/null || apt-get install -q -y --no-install-recommends python3-pip; }
COPY . /sources
ARG CMAKE_ARGS
RUN pip3 wheel --no-index --find-links=/sources --no-deps --wheel-dir=/plain llama-cpp-python \
 && mkdir /wheels \
 && python3 /sources/native/build.py /plain/*.whl /sources/llama_cpp_python-*.tar.gz /wheels

FROM scratch
COPY --from=build /wheels /
