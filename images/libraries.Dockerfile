# What one image needs beside its own code: Python 3.11 and the packages of one role. Changes only with the lock.
#
# No package is fetched here. The build context is a directory that `make images` filled from requirements.lock with
# every hash checked, so this file copies, and works with buildah on a base from debootstrap as with Docker on the
# default below.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE}
# Some programs (initdb) refuse to run as a user without a name, and Debian calls Python only `python3`.
RUN echo 'reembed:x:10001:10001::/tmp:/usr/sbin/nologin' >>/etc/passwd \
 && echo 'reembed:x:10001:' >>/etc/group \
 && { command -v python >/dev/null || ln -s "$(command -v python3)" /usr/local/bin/python; }
ENV PYTHONPATH=/opt/reembed PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY . /opt/reembed
# Pods have a read-only root: what is not compiled now is compiled at every start.
RUN python -m compileall -q --invalidation-mode unchecked-hash /opt/reembed
