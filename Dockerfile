# The control center as a container. With DATABASE_URL set it keeps nothing; without it, the data is in /var/lib/onsembl.
FROM python:3.11-slim AS build
RUN pip install --no-cache-dir uv
COPY . /src
RUN uv build --wheel --out-dir /wheel /src

FROM python:3.11-slim
RUN --mount=from=build,source=/wheel,target=/wheel \
    pip install --no-cache-dir "$(echo /wheel/*.whl)[server]"
RUN useradd --create-home onsembl && install --directory --owner=onsembl /var/lib/onsembl
USER onsembl
ENV ONSEMBL_DATA_DIR=/var/lib/onsembl PYTHONUNBUFFERED=1
EXPOSE 8400
CMD ["onsembl", "up", "--host", "0.0.0.0"]
