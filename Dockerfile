# Two stages: build with the pinned toolchain, run as a user that is not root.
FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
ENV SQLX_OFFLINE=true
RUN cargo build --release --locked --package catenary-cli

FROM docker.io/library/debian:bookworm-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/catenary --create-home catenary
COPY --from=build /src/target/release/catenary /usr/local/bin/catenary
USER 10001
ENV CATENARY_LISTEN=0.0.0.0:8440 CATENARY_DATA=/var/lib/catenary
VOLUME /var/lib/catenary
EXPOSE 8440
ENTRYPOINT ["catenary"]
CMD ["serve"]
