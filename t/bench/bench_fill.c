/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * A directory of valid certificates, as a long life would have left it.
 *
 *     bench_fill DIRECTORY CAFILE COUNT
 *
 * Makes a CA of its own, writes its certificate to CAFILE and, for the names
 * host00000.example.test and on, a file with a traditional P-256 key, the
 * certificate and the CA's into DIRECTORY, which must exist.
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#define COUNT_MAX 100000
#define NAME_SIZE 64
#define PATH_SIZE 4096
#define DAY (24L * 3600)

typedef struct pair_t {
    X509 *cert;
    EVP_PKEY *key;
} pair_t;

static EVP_PKEY *make_key(void)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
    EVP_PKEY *key = NULL;

    if (ctx == NULL || EVP_PKEY_keygen_init(ctx) != 1
        || EVP_PKEY_CTX_set_ec_paramgen_curve_nid(ctx, NID_X9_62_prime256v1) != 1
        || EVP_PKEY_CTX_set_ec_param_enc(ctx, OPENSSL_EC_NAMED_CURVE) != 1
        || EVP_PKEY_keygen(ctx, &key) != 1)
        key = NULL;
    EVP_PKEY_CTX_free(ctx);
    return key;
}

static int add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509_EXTENSION *extension;
    X509V3_CTX ctx;
    int done;

    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    done = extension != NULL && X509_add_ext(cert, extension, -1);
    X509_EXTENSION_free(extension);
    return done;
}

/* Every field but the extensions and the signature. */
static int make_body(pair_t *pair, const char *name, long serial, X509 *issuer)
{
    X509_NAME *subject;

    pair->key = make_key();
    pair->cert = X509_new();
    if (pair->key == NULL || pair->cert == NULL)
        return 0;
    subject = X509_get_subject_name(pair->cert);
    return X509_set_version(pair->cert, 2)
           && ASN1_INTEGER_set(X509_get_serialNumber(pair->cert), serial)
           && X509_gmtime_adj(X509_getm_notBefore(pair->cert), -DAY) != NULL
           && X509_gmtime_adj(X509_getm_notAfter(pair->cert), 89 * DAY) != NULL
           && X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name,
                                         -1, -1, 0)
           && X509_set_issuer_name(pair->cert, issuer ? X509_get_subject_name(issuer) : subject)
           && X509_set_pubkey(pair->cert, pair->key);
}

static int make_ca(pair_t *ca)
{
    return make_body(ca, "bench CA", 1, NULL)
           && add_extension(ca->cert, ca->cert, NID_basic_constraints, "critical,CA:TRUE")
           && add_extension(ca->cert, ca->cert, NID_subject_key_identifier, "hash")
           && X509_sign(ca->cert, ca->key, EVP_sha256());
}

static int make_leaf(pair_t *leaf, const pair_t *ca, const char *name, long serial)
{
    char san[NAME_SIZE + 8];

    snprintf(san, sizeof(san), "DNS:%s", name);
    return make_body(leaf, name, serial, ca->cert)
           && add_extension(leaf->cert, ca->cert, NID_subject_alt_name, san)
           && add_extension(leaf->cert, ca->cert, NID_ext_key_usage, "serverAuth,clientAuth")
           && add_extension(leaf->cert, ca->cert, NID_authority_key_identifier, "keyid")
           && X509_sign(leaf->cert, ca->key, EVP_sha256());
}

static void free_pair(pair_t *pair)
{
    X509_free(pair->cert);
    EVP_PKEY_free(pair->key);
    pair->cert = NULL;
    pair->key = NULL;
}

/* With a pair: its key and certificate first. */
static int write_file(const char *path, const pair_t *pair, X509 *issuer)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    BIO *out = fd >= 0 ? BIO_new_fd(fd, BIO_CLOSE) : NULL;
    BIO *buffer = BIO_new(BIO_f_buffer());
    int done = 0;

    if (out == NULL || buffer == NULL) {
        perror(path);
        goto end;
    }
    BIO_push(buffer, out);
    done = (pair == NULL
            || (PEM_write_bio_PrivateKey_traditional(buffer, pair->key, NULL, NULL, 0, NULL, NULL)
                && PEM_write_bio_X509(buffer, pair->cert)))
           && PEM_write_bio_X509(buffer, issuer) && BIO_flush(buffer) == 1;
end:
    if (out == NULL && fd >= 0)
        close(fd);
    BIO_free(buffer);
    BIO_free(out);
    return done;
}

static int fill(const char *directory, const char *cafile, long count)
{
    char name[NAME_SIZE];
    char path[PATH_SIZE];
    pair_t ca = {0};
    pair_t leaf = {0};
    int done = make_ca(&ca) && write_file(cafile, NULL, ca.cert);

    for (long i = 0; done && i < count; i++) {
        snprintf(name, sizeof(name), "host%05ld.example.test", i);
        done = snprintf(path, sizeof(path), "%s/%s", directory, name) < (int)sizeof(path)
               && make_leaf(&leaf, &ca, name, i + 2) && write_file(path, &leaf, ca.cert);
        free_pair(&leaf);
    }
    free_pair(&ca);
    return done;
}

int main(int argc, char **argv)
{
    long count = argc == 4 ? strtol(argv[3], NULL, 10) : 0;

    if (count < 1 || count > COUNT_MAX) {
        fprintf(stderr, "usage: %s DIRECTORY CAFILE COUNT\n", argv[0]);
        return 2;
    }
    if (!fill(argv[1], argv[2], count)) {
        ERR_print_errors_fp(stderr);
        return 1;
    }
    return 0;
}
