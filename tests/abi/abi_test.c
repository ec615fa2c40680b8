/* The C interface as a C99 program sees it: null pointers, indices, tokens, fork, faults of the installation. No
 * network: the configured name server is a closed port of this machine. Usage: abi_test CA.pem LEAF.der */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sealane.h"

static int failures = 0;

#define CHECK(condition)                                                \
  do {                                                                  \
    if (!(condition)) {                                                 \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, (#condition)); \
      ++failures;                                                       \
    }                                                                   \
  } while (0)

static int same(const char* a, const char* b) { return a != NULL && b != NULL && strcmp(a, b) == 0; }

static char folder[] = "/tmp/sealane-abi-XXXXXX";

static const char root_anchor[] =
    ". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D\n";

static const char* in_folder(const char* name) {
  static char path[4][256];
  static int next = 0;
  next = (next + 1) % 4;
  snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
  return path[next];
}

static void write_file(const char* name, const char* text) {
  FILE* file = fopen(in_folder(name), "w");
  CHECK(file != NULL);
  if (file == NULL) return;
  CHECK(fputs(text, file) >= 0);
  CHECK(fclose(file) == 0);
}

/* A configuration file; returns its path. */
static const char* config(const char* name, const char* store, const char* anchor, const char* ca) {
  char text[2048];
  snprintf(
      text, sizeof text,
      "store = %s/%s\ntrust_anchor = %s/%s\nca_file = %s\nresolver = 127.0.0.1@1\ntimeout = 10s\ndns_timeout = 1s\n",
      folder, store, folder, anchor, ca);
  write_file(name, text);
  return in_folder(name);
}

static void constants(void) {
  int status;
  CHECK(sealane_abi_version() >> 24 == 0);
  for (status = SEALANE_OK; status <= SEALANE_E_TOKEN; ++status) {
    CHECK(!same(sealane_strerror(status), sealane_strerror(-1)));
  }
  CHECK(strlen(sealane_strerror(12345)) > 0);
}

static void null_pointers(sealane_ctx* ctx) {
  sealane_decision* decision = NULL;
  sealane_demand* demand = NULL;
  sealane_verdict* verdict = NULL;
  const char* token = "";
  CHECK(sealane_open(NULL, NULL) == SEALANE_E_ARGUMENT);
  CHECK(sealane_query(NULL, "example.org", 0, 25, 0, &decision) == SEALANE_E_ARGUMENT);
  CHECK(sealane_query(ctx, NULL, 0, 25, 0, &decision) == SEALANE_E_ARGUMENT);
  CHECK(sealane_query(ctx, "example.org", 0, 25, 0, NULL) == SEALANE_E_ARGUMENT);
  CHECK(decision == NULL);
  CHECK(same(sealane_decision_action(NULL), "defer"));
  CHECK(same(sealane_decision_others(NULL), "skip"));
  CHECK(same(sealane_decision_mechanism(NULL), "none"));
  CHECK(same(sealane_decision_reason(NULL), ""));
  CHECK(same(sealane_decision_text(NULL), ""));
  CHECK(same(sealane_decision_domain(NULL), ""));
  CHECK(same(sealane_decision_json(NULL), ""));
  CHECK(sealane_decision_expires(NULL) == 0);
  CHECK(sealane_decision_host_count(NULL) == 0);
  CHECK(sealane_host_name(NULL, 0) == NULL);
  CHECK(sealane_host_tls(NULL, 0) == NULL);
  CHECK(sealane_host_sni(NULL, 0) == NULL);
  CHECK(sealane_host_tlsa_base(NULL, 0) == NULL);
  CHECK(sealane_host_reason(NULL, 0) == NULL);
  CHECK(sealane_demand_write(NULL, &token) == SEALANE_E_ARGUMENT);
  CHECK(token == NULL);
  CHECK(sealane_demand_read(NULL, NULL, &demand) == SEALANE_E_ARGUMENT);
  CHECK(sealane_demand_read("1;example.org;skip", NULL, NULL) == SEALANE_E_ARGUMENT);
  CHECK(sealane_verify(NULL, "mx.example.org", NULL, NULL, 0, &verdict) == SEALANE_E_ARGUMENT);
  CHECK(verdict == NULL);
  CHECK(sealane_verdict_ok(NULL) == 0);
  CHECK(same(sealane_verdict_reason(NULL), ""));
  CHECK(same(sealane_verdict_text(NULL), ""));
  CHECK(strlen(sealane_error(NULL)) > 0);
  sealane_decision_free(NULL);
  sealane_demand_free(NULL);
  sealane_verdict_free(NULL);
  sealane_close(NULL);
}

static void bad_arguments(sealane_ctx* ctx) {
  sealane_decision* decision = NULL;
  CHECK(sealane_query(ctx, "example.org", 64, 25, 0, &decision) == SEALANE_E_ARGUMENT);
  CHECK(strlen(sealane_error(ctx)) > 0);
  CHECK(sealane_query(ctx, "example.org", 0, 0, 0, &decision) == SEALANE_E_ARGUMENT);
  CHECK(decision == NULL);
}

static void decisions(sealane_ctx* ctx) {
  sealane_decision* d = NULL;
  char* long_name = malloc(1000001);

  CHECK(sealane_query(ctx, "[192.0.2.1]", 0, 25, 0, &d) == SEALANE_OK);
  CHECK(same(sealane_error(ctx), ""));
  CHECK(same(sealane_decision_action(d), "deliver"));
  CHECK(same(sealane_decision_mechanism(d), "none"));
  CHECK(sealane_decision_expires(d) > 1700000000);
  CHECK(strncmp(sealane_decision_json(d), "{\"schema\":1,", 12) == 0);
  CHECK(sealane_decision_host_count(d) == 1);
  CHECK(same(sealane_host_tls(d, 0), "opportunistic"));
  CHECK(sealane_host_name(d, 0) != NULL && sealane_host_sni(d, 0) != NULL && sealane_host_reason(d, 0) != NULL);
  CHECK(same(sealane_host_tlsa_base(d, 0), ""));
  CHECK(sealane_host_name(d, 1) == NULL);
  CHECK(sealane_host_tls(d, 1) == NULL);
  CHECK(sealane_host_sni(d, (size_t)-1) == NULL);
  CHECK(sealane_host_tlsa_base(d, 1) == NULL);
  CHECK(sealane_host_reason(d, 1) == NULL);
  sealane_decision_free(d);

  CHECK(sealane_query(ctx, "no domain", 0, 25, 0, &d) == SEALANE_OK);
  CHECK(same(sealane_decision_action(d), "reject"));
  CHECK(same(sealane_decision_reason(d), "domain-invalid"));
  sealane_decision_free(d);

  /* A million octets, not UTF-8. */
  CHECK(long_name != NULL);
  memset(long_name, 0xff, 1000000);
  long_name[1000000] = '\0';
  CHECK(sealane_query(ctx, long_name, 0, 25, 0, &d) == SEALANE_OK);
  CHECK(same(sealane_decision_reason(d), "domain-invalid"));
  CHECK(strlen(sealane_decision_json(d)) < 100000);
  sealane_decision_free(d);
  free(long_name);

  /* A DNS failure is not an error. */
  CHECK(sealane_query(ctx, "Example.ORG.", SEALANE_FRESH, 25, 0, &d) == SEALANE_OK);
  CHECK(same(sealane_decision_domain(d), "example.org"));
  CHECK(same(sealane_decision_action(d), "defer"));
  CHECK(same(sealane_decision_others(d), "skip"));
  CHECK(strstr(sealane_decision_text(d), "example.org") != NULL);
  sealane_decision_free(d);
}

static void expect(const sealane_demand* demand, const char* host, int ok) {
  sealane_verdict* verdict = NULL;
  CHECK(sealane_verify(demand, host, NULL, NULL, 0, &verdict) == SEALANE_OK);
  CHECK(sealane_verdict_ok(verdict) == ok);
  CHECK(same(sealane_verdict_reason(verdict), "verified") == ok);
  CHECK(strlen(sealane_verdict_text(verdict)) > 0);
  sealane_verdict_free(verdict);
}

/* From the decision to the token, and from the token to the same demands. */
static void tokens(sealane_ctx* ctx) {
  sealane_decision* d = NULL;
  sealane_demand* demand = NULL;
  const char* token = NULL;

  CHECK(sealane_query(ctx, "[192.0.2.1]", 0, 25, 0, &d) == SEALANE_OK);
  CHECK(sealane_demand_write(d, &token) == SEALANE_OK);
  CHECK(token != NULL &&
        strspn(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-:/,;=+") == strlen(token));
  CHECK(sealane_demand_read(token, NULL, &demand) == SEALANE_OK);
  expect(demand, sealane_host_name(d, 0), 1);
  sealane_demand_free(demand);
  sealane_decision_free(d);

  CHECK(sealane_query(ctx, "example.org", 0, 25, 0, &d) == SEALANE_OK);
  CHECK(sealane_demand_write(d, &token) == SEALANE_OK);
  CHECK(sealane_demand_read(token, NULL, &demand) == SEALANE_OK);
  expect(demand, "mx.example.org", 0);
  sealane_demand_free(demand);
  sealane_decision_free(d);

  CHECK(sealane_demand_read("", NULL, &demand) == SEALANE_E_TOKEN);
  CHECK(sealane_demand_read("nonsense", NULL, &demand) == SEALANE_E_TOKEN);
  CHECK(sealane_demand_read("1;example.org;opportunistic;", NULL, &demand) == SEALANE_E_TOKEN);
  CHECK(demand == NULL);
}

/* A CA file is needed for `pkix` alone. */
static void demands(const char* good_config, const char* bad_ca_config) {
  static const char pkix[] = "1;example.org;skip;mx.example.org,,pkix,mx.example.org,mx.example.org,";
  static const char encrypt[] = "1;example.org;skip;mx.example.org,,encrypt,mx.example.org,,";
  static const unsigned char rubbish[] = {0x30, 0x03, 0x02, 0x01, 0x01};
  const unsigned char* der[] = {rubbish, NULL};
  const size_t len[] = {sizeof rubbish, 1};
  sealane_demand* demand = NULL;
  sealane_verdict* verdict = NULL;

  CHECK(sealane_demand_read(pkix, bad_ca_config, &demand) == SEALANE_E_CONFIG);
  CHECK(demand == NULL);
  CHECK(sealane_demand_read(encrypt, bad_ca_config, &demand) == SEALANE_OK);
  expect(demand, "mx.example.org", 0);
  sealane_demand_free(demand);

  CHECK(sealane_demand_read(pkix, good_config, &demand) == SEALANE_OK);
  expect(demand, "mx.example.org", 0);
  CHECK(sealane_verify(demand, "mx.example.org", der, len, 1, &verdict) == SEALANE_OK);
  CHECK(sealane_verdict_ok(verdict) == 0);
  sealane_verdict_free(verdict);
  CHECK(sealane_verify(demand, "mx.example.org", der, len, 2, &verdict) == SEALANE_E_ARGUMENT);
  CHECK(sealane_verify(demand, "mx.example.org", NULL, len, 1, &verdict) == SEALANE_E_ARGUMENT);
  CHECK(sealane_verify(demand, NULL, der, len, 1, &verdict) == SEALANE_E_ARGUMENT);
  CHECK(verdict == NULL);
  sealane_demand_free(demand);
}

/* RFC 7672 section 3.1.1: DANE-EE, a self-signed certificate by its key; and not by another. */
static void dane(const char* certificate) {
  static const char right[] =
      "1;example.org;skip;mx.example.org,,dane,mx.example.org,mx.example.org,3.1.1."
      "Wb2Qj5p+EBTJmMIg4C8aNsmy2MbEyFYZKkmiMqXRTLA=";
  static const char wrong[] =
      "1;example.org;skip;mx.example.org,,dane,mx.example.org,mx.example.org,3.1.1."
      "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
  static unsigned char octets[4096];
  const unsigned char* der[] = {octets};
  size_t len[1];
  sealane_demand* demand = NULL;
  sealane_verdict* verdict = NULL;
  FILE* file = fopen(certificate, "rb");
  CHECK(file != NULL);
  if (file == NULL) return;
  len[0] = fread(octets, 1, sizeof octets, file);
  fclose(file);

  CHECK(sealane_demand_read(right, NULL, &demand) == SEALANE_OK);
  CHECK(sealane_verify(demand, "MX.example.org.", der, len, 1, &verdict) == SEALANE_OK);
  CHECK(sealane_verdict_ok(verdict) == 1);
  sealane_verdict_free(verdict);
  CHECK(sealane_verify(demand, "mx.evil.test", der, len, 1, &verdict) == SEALANE_OK);
  CHECK(sealane_verdict_ok(verdict) == 0);
  sealane_verdict_free(verdict);
  sealane_demand_free(demand);

  CHECK(sealane_demand_read(wrong, NULL, &demand) == SEALANE_OK);
  CHECK(sealane_verify(demand, "mx.example.org", der, len, 1, &verdict) == SEALANE_OK);
  CHECK(sealane_verdict_ok(verdict) == 0);
  CHECK(same(sealane_verdict_reason(verdict), "tlsa-mismatch"));
  sealane_verdict_free(verdict);
  sealane_demand_free(demand);
}

static void after_fork(sealane_ctx* ctx) {
  sealane_demand* demand = NULL;
  int status = 0;
  pid_t child;
  CHECK(sealane_demand_read("1;example.org;opportunistic", NULL, &demand) == SEALANE_OK);
  child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    sealane_decision* d = NULL;
    sealane_verdict* verdict = NULL;
    failures = 0;
    CHECK(sealane_query(ctx, "[192.0.2.1]", 0, 25, 0, &d) == SEALANE_E_FORKED);
    CHECK(strlen(sealane_error(ctx)) > 0);
    CHECK(d == NULL);
    CHECK(sealane_verify(demand, "mx.example.org", NULL, NULL, 0, &verdict) == SEALANE_E_FORKED);
    CHECK(verdict == NULL);
    sealane_close(ctx);
    _exit(failures == 0 ? 0 : 1);
  }
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK(sealane_query(ctx, "[192.0.2.1]", 0, 25, 0, NULL) == SEALANE_E_ARGUMENT); /* the parent's still works */
  expect(demand, "mx.example.org", 1);
  sealane_demand_free(demand);
}

/* `part`: what the error must name. */
static void refused_config(const char* path, const char* part) {
  sealane_ctx* ctx = NULL;
  sealane_decision* d = NULL;
  CHECK(sealane_open(path, &ctx) == SEALANE_E_CONFIG);
  CHECK(strstr(sealane_error(ctx), part) != NULL);
  CHECK(sealane_query(ctx, "[192.0.2.1]", 0, 25, 0, &d) == SEALANE_E_CONFIG);
  CHECK(d == NULL);
  sealane_close(ctx);
}

int main(int argc, char** argv) {
  sealane_ctx* ctx = NULL;
  sealane_ctx* other = NULL;
  sealane_decision* d = NULL;
  char* ca = argc == 3 ? realpath(argv[1], NULL) : NULL;
  if (ca == NULL || mkdtemp(folder) == NULL) {
    fprintf(stderr, "usage: abi_test CA.pem LEAF.der\n");
    return 2;
  }
  write_file("root.key", root_anchor);
  write_file("empty", "");
  write_file("broken.db", "this is no database, and long enough to be taken for one were it looked at carelessly");

  constants();
  if (sealane_open(config("good.conf", "sealane.db", "root.key", ca), &ctx) != SEALANE_OK) {
    fprintf(stderr, "%s: %s\n", folder, sealane_error(ctx));
    return 1;
  }
  null_pointers(ctx);
  bad_arguments(ctx);
  decisions(ctx);
  tokens(ctx);
  demands(in_folder("good.conf"), config("no-ca.conf", "sealane.db", "root.key", in_folder("empty")));
  dane(argv[2]);
  after_fork(ctx);

  refused_config("/nonexistent/sealane.conf", "/nonexistent/sealane.conf");
  write_file("bad.conf", "timeout = 20s\nno_such_key = 1\n");
  refused_config(in_folder("bad.conf"), "bad.conf:2");
  refused_config(in_folder("no-ca.conf"), "empty");
  refused_config(config("no-anchor.conf", "sealane.db", "empty", ca), "trust anchor");

  /* A store that cannot be opened is told by decisions; and contexts are independent. */
  CHECK(sealane_open(config("broken-store.conf", "broken.db", "root.key", ca), &other) == SEALANE_OK);
  CHECK(sealane_query(other, "[192.0.2.1]", 0, 25, 0, &d) == SEALANE_OK);
  sealane_decision_free(d);
  sealane_close(ctx);
  CHECK(sealane_query(other, "[192.0.2.1]", SEALANE_NO_MX, 25, 1, &d) == SEALANE_OK);
  sealane_decision_free(d);
  sealane_close(other);

  free(ca);
  if (failures == 0) {
    const char* const files[] = {"root.key", "empty",          "broken.db",         "good.conf", "no-ca.conf",
                                 "bad.conf", "no-anchor.conf", "broken-store.conf", "sealane.db"};
    size_t i;
    for (i = 0; i < sizeof files / sizeof files[0]; ++i) unlink(in_folder(files[i]));
    unlink(in_folder("sealane.db-wal"));
    unlink(in_folder("sealane.db-shm"));
    rmdir(folder);
  } else {
    fprintf(stderr, "%d failures; see %s\n", failures, folder);
  }
  return failures == 0 ? 0 : 1;
}
