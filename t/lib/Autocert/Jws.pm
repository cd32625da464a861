# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# A request to a CA in the name of an account with an EC P-256 key, for what the module never asks.
package Autocert::Jws;

use strict;
use warnings;

use Exporter 'import';
use JSON::PP ();
use MIME::Base64 ();

use Autocert::Client ();
use Autocert::Util qw(run_program scratch spit slurp);

our @EXPORT_OK = qw(signed_post);

use constant NUMBER => 32;    # bytes of each of the two in a signature

# The answer as https_get() has it. Arguments: ca (port, cafile), nonce (path of newNonce), key (file),
# account (its URL), path, payload (a hash).
sub signed_post
{
    my (%arg) = @_;

    my %to = (port => $arg{ca}->port, sni => 'localhost', ca => $arg{ca}->cafile,
        host => 'localhost:' . $arg{ca}->port);
    my $nonce = Autocert::Client::https_get(%to, path => $arg{nonce})->{headers}{'replay-nonce'}
        // die "$arg{nonce}: no nonce\n";
    my $json = JSON::PP->new->canonical;
    my ($protected, $payload) = map { MIME::Base64::encode_base64url($json->encode($_)) }
        { alg => 'ES256', kid => $arg{account}, nonce => $nonce, url => "https://$to{host}$arg{path}" },
        $arg{payload};
    my $signature = MIME::Base64::encode_base64url(sign($arg{key}, "$protected.$payload"));
    return Autocert::Client::https_get(%to, method => 'POST', path => $arg{path},
        headers => { 'Content-Type' => 'application/jose+json', 'User-Agent' => 'autocert-test' },
        body => $json->encode({ protected => $protected, payload => $payload,
            signature => $signature }));
}

# OpenSSL writes DER, a SEQUENCE of two INTEGERs; JWS wants both numbers at their full width.
sub sign
{
    my ($key, $text) = @_;

    my ($in, $out) = map { scratch() . "/jws.$$.$_" } qw(text signature);
    spit($in, $text);
    my ($status, $said) = run_program(['openssl', 'dgst', '-sha256', '-sign', $key, '-out', $out, $in]);
    die "openssl dgst: $said" if $status;
    my ($r, $s) = unpack 'x2 x C/a x C/a', slurp($out);
    unlink $in, $out;
    return join '', map { substr "\0" x NUMBER . $_, -NUMBER() } $r, $s;
}

1;
