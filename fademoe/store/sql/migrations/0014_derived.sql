-- Which series derived perpspecs are computed from. `is_followed`: the exchange is one of FADEMOE_EXCHANGES.
CREATE TABLE perp_derived (
    source      TEXT NOT NULL,
    code        TEXT NOT NULL,
    inputs      TEXT[] NOT NULL,        -- perpspecs of that code
    is_across   BOOLEAN NOT NULL,       -- over all followed exchanges, one row for each
    lag_ms      BIGINT NOT NULL,        -- a row needs the one so much before as well
    is_followed BOOLEAN NOT NULL DEFAULT true,
    PRIMARY KEY (source, code)
);
