/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "crypto/bundle.h"
#include "crypto/cert.h"

#define NAME "www.example.org"
#define DAY apr_time_from_sec(86400)

static apr_pool_t *pool;
static const apr_time_t NOW = APR_TIME_C(1800000000) * APR_USEC_PER_SEC;

/* A little CA: root R signs intermediates I and J (J by I), J signs leaves. "cross" is
 * R's name and key, signed by another root S. Made once for all tests. */
enum { R, S, I, J, LEAF, OTHER, KEYS };
static EVP_PKEY *keys[KEYS];
static EVP_PKEY *rsa_key;
static char *root, *root_s, *inter_i, *inter_j, *cross, *leaf, *leaf_key;

typedef struct {
    const char *cn;             /* no CN when NULL */
    const char *san;            /* in OpenSSL's notation; no SAN when NULL */
    const char *usage;          /* extended key usage, may be NULL */
    EVP_PKEY *key;
    EVP_PKEY *signer;
    const char *issuer_cn;
    int ca;
    apr_time_t from, to;        /* relative to NOW; 0 and 0 for the usual 90 days */
} recipe_t;

static char *take_bio(BIO *bio)
{
    char *data;
    long len = BIO_get_mem_data(bio, &data);
    char *text = apr_pstrmemdup(pool, data, (apr_size_t)len);

    BIO_free(bio);
    return text;
}

static char *bake(const recipe_t *recipe)
{
    crypto_cert_params_t params = {
        .key = recipe->key,
        .cn = recipe->cn,
        .not_before = NOW + (recipe->to ? recipe->from : -DAY),
        .not_after = NOW + (recipe->to ? recipe->to : 89 * DAY),
    };
    X509 *cert = crypto_cert_new(&params);
    X509_NAME *issuer = X509_NAME_new();
    BIO *bio = BIO_new(BIO_s_mem());

    assert_non_null(cert);
    crypto_cert_set_cn(issuer, recipe->issuer_cn);
    X509_set_issuer_name(cert, issuer);
    X509_NAME_free(issuer);
    assert_true(crypto_cert_extend(cert, cert, NID_basic_constraints,
                                   recipe->ca ? "critical,CA:TRUE" : "critical,CA:FALSE"));
    if (recipe->san)
        assert_true(crypto_cert_extend(cert, cert, NID_subject_alt_name, recipe->san));
    if (recipe->usage)
        assert_true(crypto_cert_extend(cert, cert, NID_ext_key_usage, recipe->usage));
    assert_true(X509_sign(cert, recipe->signer, EVP_sha256()));
    PEM_write_bio_X509(bio, cert);
    X509_free(cert);
    return take_bio(bio);
}

/* A leaf for NAME unless the recipe says otherwise. */
static char *bake_leaf(recipe_t recipe)
{
    if (!recipe.key)
        recipe.key = keys[LEAF];
    if (!recipe.signer)
        recipe.signer = keys[J];
    if (!recipe.issuer_cn)
        recipe.issuer_cn = "J";
    return bake(&recipe);
}

static char *key_pem(EVP_PKEY *key)
{
    BIO *bio = BIO_new(BIO_s_mem());

    crypto_key_write_bio(bio, key, NULL);
    return take_bio(bio);
}

static char *join(const char *first, ...)
{
    va_list args;
    char *all = apr_pstrdup(pool, first);
    const char *next;

    va_start(args, first);
    while ((next = va_arg(args, const char *)) != NULL)
        all = apr_pstrcat(pool, all, next, NULL);
    va_end(args);
    return all;
}

static int set_up(void **state)
{
    int i;

    (void)state;
    apr_initialize();
    apr_pool_create(&pool, NULL);
    for (i = 0; i < KEYS; i++)
        crypto_key_generate(&keys[i], CRYPTO_KEY_P256, NULL);
    crypto_key_generate(&rsa_key, CRYPTO_KEY_RSA2048, NULL);
    root = bake(&(recipe_t){ .cn = "R", .issuer_cn = "R", .key = keys[R], .signer = keys[R],
                             .ca = 1 });
    root_s = bake(&(recipe_t){ .cn = "S", .issuer_cn = "S", .key = keys[S], .signer = keys[S],
                               .ca = 1 });
    cross = bake(&(recipe_t){ .cn = "R", .issuer_cn = "S", .key = keys[R], .signer = keys[S],
                              .ca = 1 });
    inter_i = bake(&(recipe_t){ .cn = "I", .issuer_cn = "R", .key = keys[I], .signer = keys[R],
                                .ca = 1 });
    inter_j = bake(&(recipe_t){ .cn = "J", .issuer_cn = "I", .key = keys[J], .signer = keys[I],
                                .ca = 1 });
    leaf = bake_leaf((recipe_t){ .cn = NAME, .san = "DNS:" NAME, .usage = "serverAuth" });
    leaf_key = key_pem(keys[LEAF]);
    return 0;
}

static int tear_down(void **state)
{
    int i;

    (void)state;
    for (i = 0; i < KEYS; i++)
        EVP_PKEY_free(keys[i]);
    EVP_PKEY_free(rsa_key);
    apr_pool_destroy(pool);
    apr_terminate();
    return 0;
}

/* Parse and check, as a load from the cache does. @return NULL or the error */
static const char *load(const char *file, int rsa)
{
    static base_error_t err;
    crypto_bundle_t *bundle = NULL;
    apr_status_t status = crypto_bundle_parse(&bundle, file, strlen(file), &err);

    if (status == APR_SUCCESS)
        status = crypto_bundle_check(bundle, NAME, rsa, NOW, &err);
    else
        assert_null(bundle);
    crypto_bundle_free(bundle);
    assert_int_equal(ERR_peek_error(), 0);
    if (status == APR_SUCCESS)
        return NULL;
    assert_int_equal(err.kind, BASE_ERROR_LOCAL);
    return err.detail;
}

static void assert_says(const char *why, const char *part)
{
    assert_non_null(why);
    if (!strstr(why, part))
        fail_msg("\"%s\" does not say \"%s\"", why, part);
}

/* VC-01 to VC-03 */
static void test_vc_01_to_03_valid(void **state)
{
    char *rsa_leaf = bake_leaf((recipe_t){ .san = "DNS:" NAME, .key = rsa_key });

    (void)state;
    assert_null(load(join(leaf_key, leaf, NULL), 0));
    assert_null(load(join(key_pem(rsa_key), rsa_leaf, NULL), 1));
    assert_null(load(join(leaf_key, leaf, inter_j, inter_i, NULL), 0));
    assert_null(load(join(leaf_key, leaf, inter_i, root_s, NULL), 0));  /* order is no matter */
}

/* VC-04 and VC-05 */
static void test_vc_04_05_junk(void **state)
{
    static const char junk[] =
        "-----BEGIN CERTIFICATE-----\nanVuaw==\n-----END CERTIFICATE-----\n";

    (void)state;
    assert_says(load(join(leaf_key, leaf, junk, NULL), 0), "not a certificate");
    assert_says(load(join(leaf_key, junk, NULL), 0), "not a certificate");
}

/* VC-06 to VC-09: other key's certificate, other key, RSA certificate with EC key and
 * the reverse */
static void test_vc_06_to_09_mismatch(void **state)
{
    char *other = bake_leaf((recipe_t){ .san = "DNS:" NAME, .key = keys[OTHER] });
    char *rsa_leaf = bake_leaf((recipe_t){ .san = "DNS:" NAME, .key = rsa_key });

    (void)state;
    assert_says(load(join(leaf_key, other, NULL), 0), "does not belong");
    assert_says(load(join(key_pem(keys[OTHER]), leaf, NULL), 0), "does not belong");
    assert_says(load(join(leaf_key, rsa_leaf, NULL), 0), "does not belong");
    assert_says(load(join(key_pem(rsa_key), leaf, NULL), 1), "does not belong");
}

/* VC-10 to VC-12, each edge of the validity to the microsecond */
static void test_vc_10_to_12_name_and_dates(void **state)
{
    char *wrong = bake_leaf((recipe_t){ .cn = NAME, .san = "DNS:example.org" });
    char *file = join(leaf_key, leaf, NULL);
    crypto_bundle_t *b = NULL;
    base_error_t err;

    (void)state;
    assert_says(load(join(leaf_key, wrong, NULL), 0), "not for this name");
    assert_int_equal(crypto_bundle_parse(&b, file, strlen(file), NULL), APR_SUCCESS);
    assert_true(b->not_before == NOW - DAY && b->not_after == NOW + 89 * DAY);
    assert_int_equal(crypto_bundle_check(b, NAME, 0, b->not_before, &err), APR_SUCCESS);
    assert_int_not_equal(crypto_bundle_check(b, NAME, 0, b->not_before - 1, &err), APR_SUCCESS);
    assert_says(err.detail, "not valid yet");
    assert_int_equal(crypto_bundle_check(b, NAME, 0, b->not_after, &err), APR_SUCCESS);
    assert_int_not_equal(crypto_bundle_check(b, NAME, 0, b->not_after + 1, &err), APR_SUCCESS);
    assert_says(err.detail, "expired");
    crypto_bundle_free(b);
}

/* VC-13 and VC-14 */
static void test_vc_13_14_kind(void **state)
{
    char *rsa_leaf = bake_leaf((recipe_t){ .san = "DNS:" NAME, .key = rsa_key });

    (void)state;
    assert_says(load(join(leaf_key, leaf, NULL), 1), "not RSA");
    assert_says(load(join(key_pem(rsa_key), rsa_leaf, NULL), 0), "not EC");
}

static char *relabel(const char *pem, const char *from, const char *to)
{
    const char *at;
    char *made = apr_pstrdup(pool, "");

    while ((at = strstr(pem, from)) != NULL) {
        made = apr_pstrcat(pool, made, apr_pstrmemdup(pool, pem, (apr_size_t)(at - pem)), to, NULL);
        pem = at + strlen(from);
    }
    return apr_pstrcat(pool, made, pem, NULL);
}

/* What Go reads, we read. */
static void test_accepted_forms(void **state)
{
    char *file = join(leaf_key, leaf, inter_j, NULL);
    EVP_PKEY *p384 = NULL;
    char *star = bake_leaf((recipe_t){ .san = "DNS:*.example.org" });
    char *multi = bake_leaf((recipe_t){ .san = "DNS:a.example,DNS:" NAME });

    (void)state;
    crypto_key_generate(&p384, CRYPTO_KEY_P384, NULL);
    assert_null(load(join(key_pem(p384), bake_leaf((recipe_t){ .san = "DNS:" NAME, .key = p384 }),
                          NULL), 0));
    EVP_PKEY_free(p384);
    assert_null(load(join("leading text\n", file, NULL), 0));
    assert_null(load(join(leaf_key, "between\n", leaf, "\n\n", inter_j, NULL), 0));
    assert_null(load(relabel(file, "\n", "\r\n"), 0));
    assert_null(load(apr_pstrmemdup(pool, file, strlen(file) - 1), 0));
    assert_null(load(join(apr_pstrmemdup(pool, file, strlen(file) - 1), "  \n", NULL), 0));
    assert_null(load(join(leaf_key, relabel(leaf, "CERTIFICATE", "ANYTHING"), NULL), 0));
    assert_null(load(join(relabel(leaf_key, "EC PRIVATE", "PRIVATE"), leaf, NULL), 0));
    assert_null(load(join(leaf_key, star, NULL), 0));
    assert_null(load(join(leaf_key, multi, NULL), 0));
    /* beyond Go */
    assert_null(load(join("\xef\xbb\xbf", file, NULL), 0));
    assert_null(load(join(file, "\n# comment\n", NULL), 0));
}

static void test_refused_forms(void **state)
{
    static const char params[] =
        "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    char *file = join(leaf_key, leaf, inter_j, NULL);
    size_t len = strlen(file);

    (void)state;
    assert_says(load(join(params, file, NULL), 0), "first PEM block");
    assert_says(load(join(leaf_key, params, leaf, NULL), 0), "not a certificate");
    assert_says(load(join(file, params, NULL), 0), "not a certificate");
    assert_says(load(join(leaf, leaf_key, NULL), 0), "first PEM block");
    assert_says(load(leaf_key, 0), "no certificate");
    assert_says(load("", 0), "no PEM block");
    assert_says(load("garbage\n", 0), "no PEM block");
    assert_says(load(join(leaf_key, leaf, leaf_key, NULL), 0), "not a certificate");
    /* CN alone does not count, nor does a wildcard for the apex. */
    assert_says(load(join(leaf_key, bake_leaf((recipe_t){ .cn = NAME }), NULL), 0), "this name");
    /* a broken BEGIN line is no mere text */
    assert_says(load(join(leaf_key, leaf, relabel(inter_j, "BEGIN CERTIFICATE-----",
                                                  "BEGIN CERTIFICATE----"), NULL), 0), "whole");
    /* cut anywhere within the last block */
    while (--len > strlen(leaf_key) + strlen(leaf) + 1) {
        const char *cut = apr_pstrmemdup(pool, file, len);

        if (len < strlen(file) - 1)
            assert_non_null(load(cut, 0));
    }
}

static void test_covers(void **state)
{
    static const struct {
        const char *san, *name;
        int covers;
    } rows[] = {
        { "DNS:example.org", "example.org", 1 }, { "DNS:EXAMPLE.org", "example.org", 1 },
        { "DNS:example.org", "www.example.org", 0 }, { "DNS:*.example.org", "example.org", 0 },
        { "DNS:*.example.org", "a.example.org", 1 }, { "DNS:*.example.org", "a.b.example.org", 0 },
        { "DNS:w*.example.org", "www.example.org", 0 }, { "DNS:example.org", ".org", 0 },
        { "DNS:www.example.org", ".example.org", 0 }, { "DNS:example.org", "", 0 },
        { "email:a@example.org", "example.org", 0 }, { NULL, "example.org", 0 },
        /* a wildcard: this one, nothing that it covers or that covers it */
        { "DNS:*.example.org", "*.example.org", 1 }, { "DNS:*.EXAMPLE.org", "*.example.org", 1 },
        { "DNS:a.org,DNS:*.example.org", "*.example.org", 1 }, { "DNS:*.org", "*.example.org", 0 },
        { "DNS:example.org", "*.example.org", 0 }, { "DNS:www.example.org", "*.example.org", 0 },
        { "DNS:*.b.example.org", "*.example.org", 0 }, { "DNS:*.example.org", "*.b.example.org", 0 },
        { "DNS:*.example.org.", "*.example.org", 0 }, { "DNS:*.example.orgs", "*.example.org", 0 },
        { "DNS:w*.example.org", "*.example.org", 0 }, { "email:*.example.org", "*.example.org", 0 },
        { "URI:*.example.org", "*.example.org", 0 }, { NULL, "*.example.org", 0 },
        /* an address: iPAddress alone, by its bytes */
        { "IP:192.0.2.1", "192.0.2.1", 1 }, { "IP:192.0.2.1", "192.0.2.2", 0 },
        { "DNS:192.0.2.1", "192.0.2.1", 0 }, { "IP:192.0.2.1", "example.org", 0 },
        { "IP:2001:db8::1", "2001:db8::1", 1 }, { "IP:2001:db8::1", "2001:db8::2", 0 },
        { "IP:2001:db8::1", "192.0.2.1", 0 }, { "IP:::ffff:192.0.2.1", "192.0.2.1", 0 },
        { "DNS:example.org,IP:192.0.2.1", "192.0.2.1", 1 },
        { "DNS:example.org,IP:192.0.2.1", "example.org", 1 },
        { "IP:192.0.2.1", "*.example.org", 0 }, { NULL, "192.0.2.1", 0 },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *pem = bake_leaf((recipe_t){ .cn = "example.org", .san = rows[i].san });
        BIO *bio = BIO_new_mem_buf(pem, -1);
        X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);

        if (crypto_bundle_covers(cert, rows[i].name) != rows[i].covers)
            fail_msg("%s %s %s", rows[i].san, rows[i].covers ? "does not cover" : "covers", rows[i].name);
        assert_int_equal(ERR_peek_error(), 0);
        X509_free(cert);
        BIO_free(bio);
    }
    assert_int_equal(crypto_bundle_covers(NULL, "example.org"), 0);
}

/* A NUL within a SAN ends nothing, and a SAN that is no SAN covers nothing. */
static void test_covers_hostile(void **state)
{
    static const unsigned char *const sans[] = {
        (const unsigned char *)"\x30\x11\x82\x0f*.example.org\0x",
        (const unsigned char *)"\x30\x0f\x82\x0d*.example.\0rg",
        (const unsigned char *)"\x30\x7f\x82\x0d*.exa", (const unsigned char *)"\x30\x00"
    };
    static const int lens[] = { 19, 17, 9, 2 };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(sans) / sizeof(sans[0]); i++) {
        X509 *cert = X509_new();
        ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
        X509_EXTENSION *ext;

        ASN1_OCTET_STRING_set(value, sans[i], lens[i]);
        ext = X509_EXTENSION_create_by_NID(NULL, NID_subject_alt_name, 0, value);
        assert_true(X509_add_ext(cert, ext, -1));
        assert_false(crypto_bundle_covers(cert, "*.example.org"));
        assert_false(crypto_bundle_covers(cert, "192.0.2.1"));
        X509_EXTENSION_free(ext);
        ASN1_OCTET_STRING_free(value);
        X509_free(cert);
    }
    ERR_clear_error();
}

/* From the cache and from the CA: the same three kinds. */
static void test_kinds(void **state)
{
    static const struct {
        const char *san, *name, *other;
    } rows[] = {
        { "DNS:*.example.org", "*.example.org", "*.example.com" },
        { "IP:192.0.2.1", "192.0.2.1", "192.0.2.2" }, { "IP:2001:db8::1", "2001:db8::1", "2001:db8::2" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *pem = join(bake_leaf((recipe_t){ .san = rows[i].san }), inter_j, NULL);
        crypto_bundle_t *bundle = NULL;
        const char *name = rows[i].name;
        base_error_t err;

        assert_int_equal(crypto_bundle_from_ca(&bundle, keys[LEAF], pem, strlen(pem), name, NOW, &err),
                         APR_SUCCESS);
        assert_int_equal(crypto_bundle_check(bundle, name, 0, NOW, &err), APR_SUCCESS);
        assert_int_not_equal(crypto_bundle_check(bundle, rows[i].other, 0, NOW, &err), APR_SUCCESS);
        assert_says(err.detail, "not for this name");
        crypto_bundle_free(bundle);
        bundle = NULL;
        assert_int_not_equal(crypto_bundle_from_ca(&bundle, keys[LEAF], pem, strlen(pem), rows[i].other, NOW,
                                                   &err), APR_SUCCESS);
        assert_says(err.detail, "not for this name");
        assert_null(bundle);
    }
}

static void test_asn1_time(void **state)
{
    ASN1_TIME *t = ASN1_TIME_new();

    (void)state;
    assert_true(crypto_bundle_asn1_time(NULL) == 0);
    assert_true(ASN1_TIME_set_string(t, "270115080000Z"));
    assert_true(crypto_bundle_asn1_time(t) == NOW);
    assert_true(ASN1_TIME_set_string(t, "20600101000000Z"));
    assert_true(crypto_bundle_asn1_time(t) == apr_time_from_sec(APR_TIME_C(2840140800)));
    ASN1_STRING_set(t, "nonsense", -1);
    assert_true(crypto_bundle_asn1_time(t) == 0);
    assert_int_equal(ERR_peek_error(), 0);
    ASN1_TIME_free(t);
}

/* @return what the CA's chain becomes as a file, or the error in *why */
static const char *from_ca(const char *pem, const char **why)
{
    static base_error_t err;
    crypto_bundle_t *bundle = NULL;
    apr_status_t status = crypto_bundle_from_ca(&bundle, keys[LEAF], pem, strlen(pem), NAME, NOW,
                                                &err);
    char *file = NULL;
    apr_size_t len = 0;

    assert_int_equal(ERR_peek_error(), 0);
    if (status != APR_SUCCESS) {
        assert_null(bundle);
        assert_int_equal(err.kind, BASE_ERROR_CA_DOWN);
        *why = err.detail;
        return NULL;
    }
    *why = NULL;
    assert_int_equal(crypto_bundle_write(bundle, &file, &len, pool, NULL), APR_SUCCESS);
    assert_int_equal(strlen(file), len);
    crypto_bundle_free(bundle);
    return file;
}

/* Whatever order and repetition: the same file, byte for byte, which is key, leaf, and
 * the intermediates upwards, and nothing else. */
static void test_from_ca_orders(void **state)
{
    const char *wanted = join(leaf_key, leaf, inter_j, inter_i, NULL);
    const char *texts[] = {
        join(leaf, inter_j, inter_i, NULL),
        join(leaf, inter_i, inter_j, NULL),
        join(inter_i, inter_j, leaf, NULL),
        join(leaf, inter_j, inter_i, root, NULL),
        join(root, inter_i, inter_j, leaf, NULL),
        join(leaf, leaf, inter_j, inter_j, inter_i, root, root, NULL),
        join("\n text\n", leaf, "\n\n", inter_j, "# x\n", inter_i, "\n\n", NULL),
        relabel(join(leaf, inter_j, inter_i, NULL), "\n", "\r\n"),
    };
    const char *why, *file;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        file = from_ca(texts[i], &why);
        assert_null(why);
        assert_string_equal(file, wanted);
    }
    /* Cross-signed: the leading-on form is kept, the self-signed one dropped. */
    wanted = join(leaf_key, leaf, inter_j, inter_i, cross, NULL);
    assert_string_equal(from_ca(join(leaf, inter_j, inter_i, root, cross, NULL), &why), wanted);
    assert_string_equal(from_ca(join(leaf, inter_j, inter_i, cross, root_s, NULL), &why), wanted);
    assert_string_equal(from_ca(join(leaf, inter_j, NULL), &why),
                        join(leaf_key, leaf, inter_j, NULL));
    assert_string_equal(from_ca(leaf, &why), join(leaf_key, leaf, NULL));
}

static void test_from_ca_bad_chain(void **state)
{
    /* J's name, but not its key */
    char *fake_j = bake(&(recipe_t){ .cn = "J", .issuer_cn = "I", .key = keys[OTHER],
                                     .signer = keys[I], .ca = 1 });
    /* J's key and name, but no CA */
    char *weak_j = bake(&(recipe_t){ .cn = "J", .issuer_cn = "I", .key = keys[J],
                                     .signer = keys[I] });
    const char *why;

    (void)state;
    from_ca(join(leaf, inter_i, NULL), &why);
    assert_says(why, "link by link");
    from_ca(join(leaf, fake_j, inter_i, NULL), &why);
    assert_says(why, "link by link");
    from_ca(join(leaf, weak_j, inter_i, NULL), &why);
    assert_says(why, "link by link");
    from_ca(join(leaf, inter_j, inter_i, root_s, NULL), &why);
    assert_says(why, "link by link");
    from_ca(join(inter_j, inter_i, NULL), &why);
    assert_says(why, "our key");
}

static void test_from_ca_bad_leaf(void **state)
{
    const struct {
        recipe_t recipe;
        const char *says;
    } rows[] = {
        { { .san = "DNS:" NAME, .key = keys[OTHER] }, "our key" },
        { { .cn = NAME, .san = "DNS:example.org" }, "this name" },
        { { .cn = NAME }, "this name" },
        { { .san = "DNS:" NAME, .ca = 1 }, "CA certificate" },
        { { .san = "DNS:" NAME, .usage = "clientAuth" }, "TLS server" },
        { { .san = "DNS:" NAME, .from = -2 * DAY, .to = -DAY }, "expired" },
        { { .san = "DNS:" NAME, .from = apr_time_from_sec(3601), .to = DAY }, "an hour ahead" },
        { { .san = "DNS:" NAME, .from = apr_time_from_sec(3600), .to = DAY }, NULL },
        { { .san = "DNS:" NAME ",DNS:extra.example.org" }, NULL },
        { { .san = "DNS:" NAME, .usage = "clientAuth,serverAuth" }, NULL },
    };
    const char *why;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        from_ca(join(bake_leaf(rows[i].recipe), inter_j, inter_i, NULL), &why);
        if (rows[i].says)
            assert_says(why, rows[i].says);
        else
            assert_null(why);
    }
}

static void test_from_ca_bad_text(void **state)
{
    char *chain = join(leaf, inter_j, inter_i, NULL), *many = leaf, *big;
    const char *why;
    size_t len = strlen(chain);
    int i;

    (void)state;
    from_ca("", &why);
    assert_says(why, "no PEM block");
    from_ca(join(chain, leaf_key, NULL), &why);
    assert_says(why, "not a CERTIFICATE");
    from_ca(join(leaf_key, chain, NULL), &why);
    assert_says(why, "not a CERTIFICATE");
    from_ca(join(leaf, relabel(inter_j, "CERTIFICATE", "X509 CRL"), NULL), &why);
    assert_says(why, "not a CERTIFICATE");
    from_ca(join(leaf, relabel(inter_j, "CERTIFICATE", "TRUSTED CERTIFICATE"), NULL), &why);
    assert_says(why, "not a CERTIFICATE");
    from_ca(apr_pstrmemdup(pool, chain, len - 5), &why);
    assert_says(why, "whole");

    for (i = 1; i < CRYPTO_BUNDLE_CHAIN_MAX; i++)
        many = join(many, inter_j, NULL);
    from_ca(many, &why);
    assert_null(why);
    from_ca(join(many, inter_j, NULL), &why);
    assert_says(why, "more than 10");

    big = apr_palloc(pool, CRYPTO_BUNDLE_BYTES_MAX + 2);
    memset(big, '\n', CRYPTO_BUNDLE_BYTES_MAX + 1);
    big[CRYPTO_BUNDLE_BYTES_MAX + 1] = '\0';
    memcpy(big, chain, len);
    from_ca(big, &why);
    assert_says(why, "longer than");
    big[CRYPTO_BUNDLE_BYTES_MAX] = '\0';
    from_ca(big, &why);
    assert_null(why);
}

/* 64 columns, LF, no blank line, ends with the last END line; parses back to the same. */
static void test_written_form(void **state)
{
    const char *why, *file = from_ca(join(leaf, inter_j, inter_i, NULL), &why), *line, *end;
    crypto_bundle_t *bundle = NULL;
    char *again = NULL;
    apr_size_t len = 0;

    (void)state;
    for (line = file; *line; line = end + 1) {
        end = strchr(line, '\n');
        assert_non_null(end);
        assert_true(end > line && end - line <= 64 && end[-1] != '\r');
        if (*line != '-' && end[1] != '-')
            assert_int_equal(end - line, 64);
    }
    assert_string_equal(file + strlen(file) - 26, "-----END CERTIFICATE-----\n");
    assert_int_equal(crypto_bundle_parse(&bundle, file, strlen(file), NULL), APR_SUCCESS);
    assert_int_equal(crypto_bundle_write(bundle, &again, &len, pool, NULL), APR_SUCCESS);
    assert_string_equal(again, file);
    crypto_bundle_free(bundle);
    crypto_bundle_free(NULL);
}

static void test_fingerprint(void **state)
{
    const char *why, *file = from_ca(join(leaf, inter_j, inter_i, NULL), &why);
    char text[CRYPTO_BUNDLE_FINGERPRINT_SIZE], other[CRYPTO_BUNDLE_FINGERPRINT_SIZE];
    unsigned char digest[EVP_MAX_MD_SIZE];
    crypto_bundle_t *bundle = NULL;
    unsigned int i, len;
    X509 *own;

    (void)state;
    assert_int_equal(crypto_bundle_parse(&bundle, file, strlen(file), NULL), APR_SUCCESS);
    assert_ptr_equal(crypto_bundle_fingerprint(bundle, text), text);
    assert_int_equal(X509_digest(bundle->leaf, EVP_sha256(), digest, &len), 1);
    assert_int_equal(strlen(text), 32);
    for (i = 0; i < 16; i++)
        assert_string_equal(apr_psprintf(pool, "%02x", digest[i]), apr_pstrmemdup(pool, text + 2 * i, 2));
    /* It is the leaf's alone: another one from the same CA has another. */
    own = bundle->leaf;
    bundle->leaf = sk_X509_value(bundle->chain, 0);
    assert_string_not_equal(crypto_bundle_fingerprint(bundle, other), text);
    bundle->leaf = own;
    crypto_bundle_free(bundle);
}

static void test_chain_leads_to(void **state)
{
    const char *chain = join(leaf, inter_j, inter_i, NULL), *crossed = join(leaf, inter_j, inter_i, cross,
                                                                            NULL);
    const char *with_key = join(leaf_key, leaf, NULL);

    (void)state;
    assert_true(crypto_bundle_chain_leads_to(chain, strlen(chain), "R"));
    assert_true(crypto_bundle_chain_leads_to(chain, strlen(chain), "r"));
    assert_true(crypto_bundle_chain_leads_to(chain, strlen(chain), "J"));
    assert_false(crypto_bundle_chain_leads_to(chain, strlen(chain), "S"));
    assert_false(crypto_bundle_chain_leads_to(chain, strlen(chain), "RR"));
    assert_false(crypto_bundle_chain_leads_to(chain, strlen(chain), ""));
    assert_true(crypto_bundle_chain_leads_to(crossed, strlen(crossed), "S"));
    assert_true(crypto_bundle_chain_leads_to(with_key, strlen(with_key), "J"));
    assert_false(crypto_bundle_chain_leads_to("junk", 4, "R"));
    assert_false(crypto_bundle_chain_leads_to("", 0, "R"));
    assert_int_equal(ERR_peek_error(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vc_01_to_03_valid),
        cmocka_unit_test(test_vc_04_05_junk),
        cmocka_unit_test(test_vc_06_to_09_mismatch),
        cmocka_unit_test(test_vc_10_to_12_name_and_dates),
        cmocka_unit_test(test_vc_13_14_kind),
        cmocka_unit_test(test_accepted_forms),
        cmocka_unit_test(test_refused_forms),
        cmocka_unit_test(test_covers),
        cmocka_unit_test(test_covers_hostile),
        cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_asn1_time),
        cmocka_unit_test(test_from_ca_orders),
        cmocka_unit_test(test_from_ca_bad_chain),
        cmocka_unit_test(test_from_ca_bad_leaf),
        cmocka_unit_test(test_from_ca_bad_text),
        cmocka_unit_test(test_written_form),
        cmocka_unit_test(test_fingerprint),
        cmocka_unit_test(test_chain_leads_to),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
