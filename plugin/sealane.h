/* sealane.h: DANE and MTA-STS decisions for mail software (libsealane.so.0).
 *
 * Pure C99. Handles are opaque. Every call that can fail returns a status; no exception, signal, exit, output or
 * environment crosses this interface. Strings are UTF-8, NUL-terminated and borrowed from their handle unless a
 * function says otherwise. A context is for one thread at a time; different contexts are independent. After fork(),
 * contexts and demands refuse to work (SEALANE_E_FORKED): make new ones in the child. A null handle reads as the safe
 * answer ("defer", "skip", 0) and may be freed.
 *
 * A DNS failure is not an error: the call succeeds, and the decision is "defer".
 */
#ifndef SEALANE_H
#define SEALANE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SEALANE_API __attribute__((visibility("default")))
#else
#define SEALANE_API
#endif

typedef struct sealane_ctx sealane_ctx;
typedef struct sealane_decision sealane_decision;
typedef struct sealane_demand sealane_demand;
typedef struct sealane_verdict sealane_verdict;

/* Status of a call. */
enum {
  SEALANE_OK = 0,
  SEALANE_E_ARGUMENT = 1, /* a null pointer, an index out of range, an unknown flag */
  SEALANE_E_CONFIG = 2,   /* the configuration, trust anchor or CA file cannot be used */
  SEALANE_E_FORKED = 3,   /* the context or demand was made in another process */
  SEALANE_E_MEMORY = 4,
  SEALANE_E_INTERNAL = 5, /* a bug in libsealane */
  SEALANE_E_TOKEN = 6     /* not a demand token */
};

/* Flags of sealane_query. */
enum {
  SEALANE_NO_MX = 1, /* the name is a next hop set by the administrator: no MX lookup */
  SEALANE_FRESH = 2  /* past all caches (RFC 8461 section 5.1) */
};

/* 0x00MMmmpp of the interface; a caller may compare major numbers. */
SEALANE_API uint32_t sealane_abi_version(void);
/* A sentence for a status; static. */
SEALANE_API const char* sealane_strerror(int status);

/* `config`: a file name, or NULL for /etc/sealane/sealane.conf. On SEALANE_E_CONFIG, *ctx is a context that can only be
 * closed and asked for sealane_error(). */
SEALANE_API int sealane_open(const char* config, sealane_ctx** ctx);
SEALANE_API void sealane_close(sealane_ctx* ctx);
/* What the last failed call on this context says in words; borrowed until the next call on it. */
SEALANE_API const char* sealane_error(const sealane_ctx* ctx);

/* Decides for `name`. `port` in host order (25). `timeout_ms`: 0 for the configured one. Blocks until then at most. */
SEALANE_API int sealane_query(sealane_ctx* ctx, const char* name, unsigned flags, uint16_t port, unsigned timeout_ms,
                              sealane_decision** decision);
SEALANE_API const char* sealane_decision_action(const sealane_decision* d);    /* "deliver" "defer" "reject" */
SEALANE_API const char* sealane_decision_reason(const sealane_decision* d);    /* token, see sealane(3) */
SEALANE_API const char* sealane_decision_text(const sealane_decision* d);      /* one line for a log */
SEALANE_API const char* sealane_decision_domain(const sealane_decision* d);    /* A-label */
SEALANE_API const char* sealane_decision_mechanism(const sealane_decision* d); /* "dane" "sts" "none": a label only */
SEALANE_API const char* sealane_decision_others(const sealane_decision* d);    /* "skip" "opportunistic" */
SEALANE_API int64_t sealane_decision_expires(const sealane_decision* d);       /* seconds since 1970, UTC */
SEALANE_API const char* sealane_decision_json(const sealane_decision* d);      /* as `sealane query --json` */
SEALANE_API size_t sealane_decision_host_count(const sealane_decision* d);
SEALANE_API void sealane_decision_free(sealane_decision* d);

/* Host `i` in order of preference; NULL where `i` is out of range. */
SEALANE_API const char* sealane_host_name(const sealane_decision* d, size_t i);
SEALANE_API const char* sealane_host_tls(const sealane_decision* d,
                                         size_t i); /* dane pkix encrypt opportunistic skip */
SEALANE_API const char* sealane_host_sni(const sealane_decision* d, size_t i);
SEALANE_API const char* sealane_host_tlsa_base(const sealane_decision* d, size_t i); /* "" where there is none */
SEALANE_API const char* sealane_host_reason(const sealane_decision* d, size_t i);

/* The demands of a decision as one printable token, to carry between processes; borrowed from the decision. */
SEALANE_API int sealane_demand_write(const sealane_decision* d, const char** token);
/* Reads a token. `config` as for sealane_open; only its ca_file is used, and only where a demand needs it: this
 * call opens no store and does no lookup. */
SEALANE_API int sealane_demand_read(const char* token, const char* config, sealane_demand** demand);
SEALANE_API void sealane_demand_free(sealane_demand* demand);

/* Judges a connection to `host`: `n` certificates in DER, leaf first; n = 0: the connection has no TLS. */
SEALANE_API int sealane_verify(const sealane_demand* demand, const char* host, const unsigned char* const der[],
                               const size_t len[], size_t n, sealane_verdict** verdict);
SEALANE_API int sealane_verdict_ok(const sealane_verdict* v); /* 1: as demanded; 0: must not be used */
SEALANE_API const char* sealane_verdict_reason(const sealane_verdict* v);
SEALANE_API const char* sealane_verdict_text(const sealane_verdict* v);
SEALANE_API void sealane_verdict_free(sealane_verdict* v);

#ifdef __cplusplus
}
#endif
#endif
