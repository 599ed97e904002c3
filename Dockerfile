# The gateway as an image: `make image`. docs/how-to/run-in-a-container.md says how to run it.
#
# Any image with Python 3.11 or newer and venv does. Name one with a digest (…@sha256:…) to build the same thing again.
ARG PYTHON_IMAGE=docker.io/library/python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
# pip reads both: a mirror's address, the certificates of a proxy. No part of the result.
ARG PIP_INDEX_URL
ARG PIP_CERT
ARG SOURCE_DATE_EPOCH=315532800
# Hashes with a fixed seed make compiled sets, and so layers, the same in every build.
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0
WORKDIR /build
# Changes rarely: what this program depends on, and the tools of this file.
COPY requirements.lock requirements-image.lock ./
RUN ["python3", "-m", "venv", "tools"]
RUN ["tools/bin/pip", "install", "--quiet", "--require-hashes", "--no-deps", "-r", "requirements-image.lock"]
RUN ["python3", "-m", "venv", "--without-pip", "/opt/heiwa"]
RUN ["tools/bin/pip", "--python", "/opt/heiwa/bin/python3", "install", "--quiet", "--require-hashes", "--no-deps", \
     "-r", "requirements.lock"]
# Changes often: the program.
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
COPY loadtest loadtest
RUN ["tools/bin/pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", "dist", "."]
RUN tools/bin/pip --python /opt/heiwa/bin/python3 install --quiet --no-deps --no-index dist/*.whl
COPY image image
RUN ["tools/bin/python", "image/finish.py"]

FROM ${PYTHON_IMAGE}
# A gateway installs nothing at run time.
RUN ["/bin/sh", "-c", "rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/ensurepip"]
COPY --from=build /build/root /
# /data, the only place that is written. Its owner and mode are the image's: a volume that is made from it gets them.
COPY --from=build --chown=10001:10001 /build/volumes /
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="Heiwa" \
      org.opencontainers.image.description="A websocket gateway for device fleets that stays calm while it is deployed." \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Inside a container 127.0.0.1 cannot be reached from outside; operations stay there. No bytecode: the disk is read-only.
ENV PATH=/opt/heiwa/bin:$PATH HOME=/data PYTHONDONTWRITEBYTECODE=1 \
    HEIWA_LISTEN__PUBLIC=0.0.0.0:8080 HEIWA_DATA__FOLDER=/data
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["python3", "/usr/share/heiwa/healthcheck.py"]
# As process 1 a program never sees a signal that comes before it has a handler. Blocked ones wait until it has.
ENTRYPOINT ["/usr/bin/env", "--block-signal=TERM", "--block-signal=INT", "/opt/heiwa/bin/heiwa"]
CMD ["serve"]
