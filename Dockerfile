# The images of Coppice, one per target: agent, operator, and test-app for the
# end-to-end suite.
#
#   docker build --target agent --tag coppice-agent:0.1.0 .
#
# It names no architecture: built on x86-64 it makes x86-64, on arm64 arm64. CI builds
# each on a machine of its kind, because RocksDB takes hours under emulation.

# The toolchain is the one of rust-toolchain.toml; both images are of one Debian.
ARG BUILDER_IMAGE=rust:1.95.0-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILDER_IMAGE} AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libclang-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /coppice
COPY . .
# Caches outlive the layer, so that a change of one file does not compile RocksDB again.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/coppice/target \
    cargo build --locked --release --package coppice-agent --package coppice-operator --bins \
    && install -D --target-directory /programs target/release/coppice-agent target/release/coppice-operator

FROM build AS build-test-app
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/coppice/target \
    cargo build --locked --release --package coppice-tests --bin coppice-test-app \
    && install -D --target-directory /programs target/release/coppice-test-app

# No shell, no package manager. The user is a number, so that Kubernetes can see that
# it is not root.
FROM ${RUNTIME_IMAGE} AS runtime
USER 65532:65532
LABEL org.opencontainers.image.title=Coppice \
    org.opencontainers.image.licenses=Apache-2.0

FROM runtime AS test-app
COPY --from=build-test-app /programs/coppice-test-app /usr/local/bin/coppice-test-app
ENTRYPOINT ["/usr/local/bin/coppice-test-app"]

FROM runtime AS operator
COPY --from=build /programs/coppice-operator /usr/local/bin/coppice-operator
# Webhook and signing; metrics and probes.
EXPOSE 8443 8080
ENTRYPOINT ["/usr/local/bin/coppice-operator"]

FROM runtime AS agent
COPY --from=build /programs/coppice-agent /usr/local/bin/coppice-agent
# The app's API (on loopback), peers, operations.
EXPOSE 4437 4438 4439
ENTRYPOINT ["/usr/local/bin/coppice-agent"]
