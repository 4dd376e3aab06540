/* TLS for the swarm, where it is built in (-DWITH_TLS -lssl -lcrypto); certificates are not looked at.
 *
 * Owns what OpenSSL keeps for a member. It reads and writes memory alone: the sockets, and the kernel's stamps on what
 * they received, are swarm_wire.c's.
 */

#include "swarm.h"

#include <errno.h>
#ifdef WITH_TLS
#include <openssl/ssl.h>

static void lack_memory(void) { fail("OpenSSL has no memory for a member"); }

void begin_tls(Member *member)
{
    static SSL_CTX *context;
    if (!context && !(context = SSL_CTX_new(TLS_client_method())))
        lack_memory();
    SSL *tls = SSL_new(context);
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    if (!tls || !in || !out)
        lack_memory();
    BIO_set_mem_eof_return(in, -1); /* nothing there is no end */
    SSL_set_bio(tls, in, out);
    SSL_set_connect_state(tls);
    SSL_do_handshake(tls); /* its first message is in `out` */
    member->tls = tls;
}

bool is_secured(const Member *member) { return SSL_is_init_finished(member->tls); }

/* Take in what the socket brought, and return how much of it there is to read; -1 if nothing. */
ssize_t decrypted(Member *member, const void *cipher, size_t size, void *into, size_t room)
{
    if (BIO_write(SSL_get_rbio(member->tls), cipher, (int)size) != (int)size)
        lack_memory();
    size_t have = 0;
    int got = 1;
    while (have < room && (got = SSL_read(member->tls, (char *)into + have, (int)(room - have))) > 0)
        have += (size_t)got;
    if (got <= 0 && SSL_get_error(member->tls, got) == SSL_ERROR_SSL)
        fail("a member's TLS broke");
    return have ? (ssize_t)have : -1;
}

void encrypt(Member *member, const void *plain, size_t size)
{
    if (SSL_write(member->tls, plain, (int)size) != (int)size)
        fail("a member's TLS took nothing");
}

size_t take_encrypted(Member *member, void *into, size_t room)
{
    int got = BIO_read(SSL_get_wbio(member->tls), into, (int)room);
    return got > 0 ? (size_t)got : 0;
}
#else
void begin_tls(Member *member)
{
    (void)member;
    fail("TLS is not built in: compile with -DWITH_TLS and link with -lssl -lcrypto");
}

bool is_secured(const Member *member) { return member->tls; }

ssize_t decrypted(Member *member, const void *cipher, size_t size, void *into, size_t room)
{
    (void)member, (void)cipher, (void)size, (void)into, (void)room;
    return -1;
}

void encrypt(Member *member, const void *plain, size_t size) { (void)member, (void)plain, (void)size; }

size_t take_encrypted(Member *member, void *into, size_t room)
{
    (void)member, (void)into, (void)room;
    return 0;
}
#endif
