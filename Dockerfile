# One image for all roles: `teo serve api|scheduler|watcher|worker`. Run it with an init process
# (`init: true`, `docker run --init`): a worker starts processes of its own.
ARG PYTHON=python:3.11-slim

FROM ${PYTHON} AS build
ARG UV_VERSION=0.13.9
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1 UV_PYTHON=/opt/teo/bin/python
RUN pip install "uv==${UV_VERSION}" && python -m venv --without-pip /opt/teo
WORKDIR /src

# Dependencies first, so that a change of the code does not fetch them again. The lock also holds
# what only development needs: it is the constraint, with its hashes, not the list.
COPY pyproject.toml requirements.lock ./
RUN uv pip install --require-hashes --constraints requirements.lock \
      --requirements pyproject.toml --extra example

COPY README.md LICENSE ./
COPY schemas schemas
COPY events events
COPY processors processors
COPY projections projections
COPY adapters adapters
COPY api api
COPY cli cli
RUN uv pip install --no-deps .

FROM ${PYTHON}
LABEL org.opencontainers.image.title="teo" \
      org.opencontainers.image.description="Distributed Test Execution Orchestrator" \
      org.opencontainers.image.licenses="MIT"
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/teo --create-home teo \
    && install -d -o teo -g teo -m 0750 \
         /var/lib/teo/api /var/lib/teo/worker /var/lib/teo/artifacts
COPY --from=build /opt/teo /opt/teo
ENV PATH=/opt/teo/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    TEO_TOKENS=/var/lib/teo/api/tokens.json \
    TEO_DATABASE=/var/lib/teo/api/projections.sqlite \
    TEO_STATE_DIR=/var/lib/teo/worker \
    TEO_ARTIFACTS=/var/lib/teo/artifacts
USER 10001:10001
WORKDIR /var/lib/teo
ENTRYPOINT ["teo"]
CMD ["--help"]
