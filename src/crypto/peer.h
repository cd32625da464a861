/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/**
 * @file crypto/peer.h
 * Which kinds of certificate key a client can use, from what its ClientHello said. For a server's
 * certificate callback, on the thread of the handshake; nothing blocks.
 */
#ifndef CRYPTO_PEER_H
#define CRYPTO_PEER_H

#include <openssl/ssl.h>

#include "crypto/key.h"

/**
 * Non-zero when the client can complete this handshake with a certificate that has such a key:
 * a signature algorithm for it is offered (RFC 8446 section 4.2.3; without the extension TLS 1.2
 * means SHA-1 with each kind, RFC 5246 section 7.4.1.4.1) and, below TLS 1.3, a cipher
 * suite that is authenticated by it, and for EC the curve (RFC 8422 section 5.1.1). In TLS 1.3 neither
 * suites nor groups say anything about certificates, so a client that offers only X25519 is an ECDSA
 * client like any other.
 */
int crypto_peer_can_use(SSL *ssl, crypto_key_type_t type);

#endif
