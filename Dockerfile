# The control center as a container. With DATABASE_URL set it keeps nothing; without it, the data is in /var/lib/onsembl.
# Every package is pinned with its hash in requirements/, so a commit installs the same packages whenever it is built.
FROM python:3.11.15-slim-bookworm AS base
ENV PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all:

FROM base AS build
# The time of every file in the wheel (the first that a zip file can tell): the same sources make the same wheel.
ENV SOURCE_DATE_EPOCH=315532800
RUN --mount=source=requirements,target=/requirements \
    pip install --require-hashes -r /requirements/build.txt
COPY . /src
RUN pip wheel --no-deps --no-build-isolation --check-build-dependencies --wheel-dir /wheel /src

FROM base
RUN --mount=source=requirements,target=/requirements \
    pip install --require-hashes -r /requirements/server.txt
RUN --mount=from=build,source=/wheel,target=/wheel \
    pip install --no-index --no-deps /wheel/*.whl && pip check
RUN useradd --create-home onsembl && install --directory --owner=onsembl /var/lib/onsembl
USER onsembl
ENV ONSEMBL_DATA_DIR=/var/lib/onsembl PYTHONUNBUFFERED=1
EXPOSE 8400
CMD ["onsembl", "up", "--host", "0.0.0.0"]
