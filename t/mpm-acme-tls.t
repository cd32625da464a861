# Licensed under the Apache License, Version 2.0; see LICENSE.
# mpm: all
#
# Connections that offer acme-tls/1 (RFC 8737). They get the challenge certificate of a
# managed name or an alert, never an HTTP answer, not even where client certificates
# are required; names that are not managed cost no look into the cache; a client that
# offers anything else besides is an ordinary one.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(handshake https_get session_cache make_ca issue_pair cache_value cert_info);
use Autocert::Opens;
use Autocert::Server;
use Autocert::Util qw(wait_until free_ports run_program slurp spit scratch);

use constant {
    STRANGERS       => 500,    # hellos for a name that is not managed, with each TLS version
    ALERT_INTERNAL  => 80,
    ALERT_NO_NAME   => 112,
    SETTLE_SECONDS  => 30,
};

my $IDENTIFIER = '1.3.6.1.5.5.7.1.31';
my $GET = "GET / HTTP/1.1\r\nHost: a.example.test\r\nConnection: close\r\n\r\n";

# The challenge pair of a name as it stands in a cache, made with the openssl program.
sub challenge_value
{
    my ($name) = @_;

    my $dir = scratch() . "/challenge.$$";
    mkdir $dir or die "$dir: $!\n";
    my ($status, $text) = run_program(['openssl', 'req', '-x509', '-newkey', 'ec',
        '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1', '-subj', "/CN=$name",
        '-addext', "subjectAltName=DNS:$name",
        '-addext', "$IDENTIFIER=critical,DER:04:20" . ':5a' x 32,
        '-keyout', "$dir/key", '-out', "$dir/cert"]);
    die "openssl req: $text" if $status;
    my %pair = (key_pem => slurp("$dir/key"), pem => slurp("$dir/cert"), chain_pem => '');
    unlink "$dir/key", "$dir/cert";
    rmdir $dir;
    return (cache_value(\%pair), cert_info($pair{pem}));
}

my $ca = make_ca('a CA by hand');
my $clients = make_ca('CA of clients');
my $ca_file = spit(scratch() . "/acme-ca.$$", $ca->{pem});
my $clients_file = spit(scratch() . "/acme-clients.$$", $clients->{pem});
my $static = issue_pair($ca, ['static.example.test']);
spit(scratch() . "/acme-static.$$", $static->{pem});
spit(scratch() . "/acme-static-key.$$", $static->{key_pem}, 0600);

my ($dead, $second) = free_ports(2);
my $server = Autocert::Server->new(
    vars => { dead => $dead, second => $second, clients => $clients_file,
        pair => scratch() . "/acme-static.$$", key => scratch() . "/acme-static-key.$$" },
    config => <<'CONF');
AutocertCA https://127.0.0.1:@dead@/dir
AutocertAcceptTOS on
AutocertCache dir:@cache@
Listen 127.0.0.1:@second@
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain a.example.test
</VirtualHost>
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain closed.example.test
    SSLVerifyClient require
    SSLCACertificateFile @clients@
</VirtualHost>
<VirtualHost 127.0.0.1:@second@>
    AutocertDomain static.example.test
    SSLCertificateFile @pair@
    SSLCertificateKeyFile @key@
</VirtualHost>
CONF

my %challenge;
for my $name (qw(a.example.test closed.example.test static.example.test other.example.test)) {
    my ($value, $facts) = challenge_value($name);
    $challenge{$name} = $facts;
    $server->cache_put("$name+token", $value);
    next if $name eq 'other.example.test';
    $server->cache_put($name, cache_value(issue_pair($ca, [$name])));
}
ok $server->start, 'httpd starts' or exit 1;
my $port = $server->https;

for my $tls ('1.2', '1.3') {
    for my $row (['a.example.test', $port], ['closed.example.test', $port],
        ['static.example.test', $second]) {
        my ($name, $at) = @$row;
        my $what = "TLS $tls, $name";
        my $session = session_cache();
        my %visit = (port => $at, sni => $name, tls => $tls, session => $session);
        my $seen = handshake(%visit, alpn => ['acme-tls/1'], keep => 1);
        ok $seen->{ok}, "$what: the validator is let in" or do { diag $seen->{error}; next };
        is $seen->{alpn}, 'acme-tls/1', "$what: with its protocol";
        is $seen->{fingerprint}, $challenge{$name}{fingerprint}, "$what: sees its certificate";
        is $seen->{chain_length}, 1, "$what: and no other";
        my $socket = $seen->{socket};
        print {$socket} $GET;
        my $answer = '';
        1 while sysread $socket, $answer, 4096, length $answer;
        is $answer, '', "$what: no HTTP after it";
        $socket->close;
        my $again = https_get(%visit, alpn => ['http/1.1']);
        if ($name eq 'closed.example.test') {
            isnt $again->{status}, 200, "$what: its session does not stand for a client certificate";
        }
        else {
            is $again->{status}, 200, "$what: others are served" or diag $again->{error};
        }
    }
}

my $log = $server->access_log;
unlike $log, qr/sni=closed\.example\.test/, 'nothing was asked of the closed host';

subtest 'X-16 a name that is not managed' => sub {
    my $opens = Autocert::Opens->new($server->cache);
    for my $row (['placeholder', $port, ALERT_NO_NAME], ['static pair', $second, ALERT_INTERNAL]) {
        my ($what, $at, $alert) = @$row;
        for my $tls ('1.2', '1.3') {
            my (%alerts, $let_in);
            for (1 .. STRANGERS / 2) {
                my $seen = handshake(port => $at, sni => 'other.example.test', tls => $tls,
                    alpn => ['acme-tls/1']);
                $let_in++ if $seen->{ok};
                $alerts{ $seen->{alert} // 'none' }++;
            }
            is $let_in, undef, "$what, TLS $tls: is not let in";
            is_deeply \%alerts, { $alert => STRANGERS / 2 }, "$what, TLS $tls: always alert $alert";
        }
    }
    is_deeply [grep { /^other/ } $opens->names], [], 'no file of it was opened';
    handshake(port => $port, sni => 'a.example.test', alpn => ['acme-tls/1']);
    ok wait_until(SETTLE_SECONDS, sub { grep { $_ eq 'a.example.test+token' } $opens->names }),
        'one of a managed name is seen to be opened';
};

for my $row (['no file', undef], ['an ordinary pair', cache_value(issue_pair($ca, ['a.example.test']))],
    ['the pair of another name', (challenge_value('b.example.test'))[0]],
    ['rubbish', "rubbish\n"]) {
    my ($what, $value) = @$row;
    unlink $server->cache_file('a.example.test+token');
    $server->cache_put('a.example.test+token', $value) if defined $value;
    my $seen = handshake(port => $port, sni => 'a.example.test', alpn => ['acme-tls/1']);
    ok !$seen->{ok}, "$what as challenge: not let in";
    is $seen->{alert}, ALERT_INTERNAL, "$what: internal_error";
}
my $nobody = handshake(port => $second, alpn => ['acme-tls/1']);
is $nobody->{fingerprint}, $challenge{'static.example.test'}{fingerprint},
    'without SNI it is the default host\'s challenge';

for my $tls ('1.2', '1.3') {
    my $seen = https_get(port => $port, sni => 'a.example.test', tls => $tls, ca => $ca_file,
        alpn => ['acme-tls/1', 'http/1.1']);
    ok $seen->{ok}, "X-17 TLS $tls: acme-tls/1 among others: an ordinary client"
        or diag $seen->{error};
    is $seen->{alpn}, 'http/1.1', "X-17 TLS $tls: with the other protocol";
    is $seen->{status}, 200, "X-17 TLS $tls: is served";
}
my $upgrade = https_get(port => $port, sni => 'a.example.test', ca => $ca_file,
    headers => { Upgrade => 'acme-tls/1', Connection => 'Upgrade, close' });
is $upgrade->{status}, 200, 'acme-tls/1 is nothing to upgrade to' or diag $upgrade->{error};
unlike $upgrade->{headers}{upgrade} // '', qr/acme/, 'and not offered as such';

done_testing;
