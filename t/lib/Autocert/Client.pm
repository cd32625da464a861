# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# What a visitor does: handshakes, requests, load. And key pairs that did not come
# from a CA under test.
#
#   my $seen = handshake(port => $https, sni => 'a.example.test', tls => '1.3',
#                        ca => $pebble->root(0));
#   ok $seen->{ok} or diag $seen->{error};
#
# Arguments of handshake() and https_get():
#   port                          on 127.0.0.1
#   address   another than 127.0.0.1 to connect to, IPv6 too
#   sni       name; none: no server_name extension
#   tls       '1.2' or '1.3'; else what both can
#   ca        file: verify chain and name; none: take every certificate
#   verify_name   instead of sni
#   ciphers, ciphersuites, alpn => [...], groups, sigalgs
#   session   a session_cache(): resumes its session, and remembers the newest one.
#             TLS 1.3 sends sessions after the handshake: use https_get()
#   tickets   false: no session tickets (TLS 1.2 then resumes by id)
#   cert, key files of a client certificate
#   timeout   seconds for each step; default 15
#   from      the client's own address, of 127.0.0.0/8
#   keep      true: the socket stays open, as {socket}
#
# The result is a hash:
#   ok, error, alert (its number), version, cipher, alpn, reused
#   pem, chain => [pem...], chain_length, subject, subject_cn, issuer_cn,
#   names (sorted dNSNames), ips (sorted addresses), serial (upper case hex), fingerprint (SHA-256, hex),
#   not_before, not_after (seconds since the epoch), key_type ('EC' or 'RSA'), key_bits
# https_get() adds status, headers (lower case names), body.
package Autocert::Client;

use strict;
use warnings;

use Exporter 'import';
use IO::Handle ();
use IO::Socket::INET ();
use IO::Socket::IP ();
use IO::Socket::SSL ();
use IO::Socket::SSL::Utils ();
use JSON::PP ();
use Net::SSLeay ();
use POSIX ();
use Socket ();
use Time::HiRes ();

use Autocert::Sessions ();
use Autocert::Util qw(spit run_program reap_within nap scratch on_exit);

our @EXPORT_OK = qw(handshake handshake_all https_get http_get http_raw curl session_cache load_start load_stop
    make_ca issue_pair cache_value cert_info);

use constant {
    TIMEOUT      => 15,
    ANSWER_MAX   => 16 * 1024 * 1024,
    LOAD_SECONDS => 300,     # a load client that nobody stops ends by itself
    SET_SIGALGS_LIST => 98,  # SSL_CTRL_SET_SIGALGS_LIST of openssl/ssl.h
    ALERT_OFFSET => 1000,    # OpenSSL's reason code of a received alert is this plus its number
};

my %VERSION = ('1.2' => 'TLSv1_2', '1.3' => 'TLSv1_3');

sub session_cache
{
    return Autocert::Sessions->new;
}

sub tls_options
{
    my (%arg) = @_;

    my %tls = (
        SSL_hostname => $arg{sni} // '',
        SSL_verify_mode => IO::Socket::SSL::SSL_VERIFY_NONE(),
    );
    if (defined $arg{ca}) {
        $tls{SSL_verify_mode} = IO::Socket::SSL::SSL_VERIFY_PEER();
        $tls{SSL_ca_file} = $arg{ca};
        $tls{SSL_verifycn_scheme} = 'http';
        $tls{SSL_verifycn_name} = $arg{verify_name} // $arg{sni};
    }
    else {
        $tls{SSL_ca} = [];    # else it reads the system's at every connection
    }
    if (defined $arg{tls}) {
        $tls{SSL_version} = $VERSION{ $arg{tls} } // die "no TLS version $arg{tls}\n";
    }
    $tls{SSL_cipher_list} = $arg{ciphers} if defined $arg{ciphers};
    $tls{SSL_ciphersuites} = $arg{ciphersuites} if defined $arg{ciphersuites};
    $tls{SSL_alpn_protocols} = $arg{alpn} if $arg{alpn};
    $tls{SSL_ecdh_curve} = $arg{groups} if defined $arg{groups};
    if ($arg{session}) {
        $tls{SSL_session_cache} = $arg{session};
        $tls{SSL_session_key} = 'session';
    }
    if (defined $arg{cert}) {
        @tls{qw(SSL_cert_file SSL_key_file SSL_use_cert)} = ($arg{cert}, $arg{key}, 1);
    }
    my $no_tickets = exists $arg{tickets} && !$arg{tickets};
    $tls{SSL_create_ctx_callback} = sub {
        my ($ctx) = @_;
        Net::SSLeay::CTX_set_options($ctx, Net::SSLeay::OP_NO_TICKET()) if $no_tickets;
        if (defined $arg{sigalgs}) {
            # Net::SSLeay has no name for it before 1.93.
            Net::SSLeay::CTX_ctrl($ctx, SET_SIGALGS_LIST, 0, $arg{sigalgs})
                or die "signature algorithms $arg{sigalgs} refused\n";
        }
    };
    return %tls;
}

sub handshake
{
    my (%arg) = @_;

    my $seen = { ok => 0 };
    my $timeout = $arg{timeout} // TIMEOUT;
    my %peer = (PeerPort => $arg{port}, Proto => 'tcp', Timeout => $timeout);
    my $tcp = defined $arg{address} ? IO::Socket::IP->new(%peer, PeerHost => $arg{address})
        : IO::Socket::INET->new(%peer, PeerAddr => '127.0.0.1', $arg{from} ? (LocalAddr => $arg{from}) : ());
    if (!$tcp) {
        $seen->{error} = "connect to port $arg{port}: $@";
        return $seen;
    }
    my $socket = IO::Socket::SSL->start_SSL($tcp, Timeout => $timeout, tls_options(%arg));
    if (!$socket) {
        $seen->{error} = "$IO::Socket::SSL::SSL_ERROR";
        $seen->{alert} = alert_number($seen->{error});
        close $tcp;
        return $seen;
    }
    # From here on a read is bounded by the kernel.
    setsockopt $socket, Socket::SOL_SOCKET(), Socket::SO_RCVTIMEO(), pack 'l!l!', $timeout, 0;
    $seen->{ok} = 1;
    $seen->{version} = $socket->get_sslversion;
    $seen->{cipher} = $socket->get_cipher;
    $seen->{alpn} = $socket->alpn_selected;
    $seen->{reused} = $socket->get_session_reused ? 1 : 0;
    my @chain = map { Net::SSLeay::PEM_get_string_X509($_) } $socket->peer_certificates;
    if (!@chain && $socket->peer_certificate) {    # a resumed session has the leaf only
        @chain = (Net::SSLeay::PEM_get_string_X509($socket->peer_certificate));
    }
    if (@chain) {
        $seen->{chain} = \@chain;
        $seen->{chain_length} = @chain;
        %$seen = (%$seen, %{ cert_info($chain[0]) });
    }
    $seen->{socket} = $socket;
    if (!$arg{keep}) {
        $socket->close;
        delete $seen->{socket};
    }
    return $seen;
}

# The alert that a failed handshake received, from the code in OpenSSL's error text.
sub alert_number
{
    my ($error) = @_;
    for my $code ($error =~ /error:([0-9A-Fa-f]{8}):/g) {
        my $reason = hex($code) & 0xfff;
        return $reason - ALERT_OFFSET if $reason > ALERT_OFFSET && $reason <= ALERT_OFFSET + 255;
    }
    return;
}

# Facts of a certificate in PEM.
sub cert_info
{
    my ($pem) = @_;

    my $cert = IO::Socket::SSL::Utils::PEM_string2cert($pem);
    my $info = IO::Socket::SSL::Utils::CERT_asHash($cert);
    my $key = Net::SSLeay::X509_get_pubkey($cert);
    my %fact = (
        pem => $pem,
        subject => Net::SSLeay::X509_NAME_oneline(Net::SSLeay::X509_get_subject_name($cert)),
        subject_cn => $info->{subject}{commonName},
        issuer_cn => $info->{issuer}{commonName},
        names => [sort map { $_->[1] } grep { $_->[0] eq 'DNS' }
                @{ $info->{subjectAltNames} // [] }],
        ips => [sort map { $_->[1] } grep { $_->[0] eq 'IP' } @{ $info->{subjectAltNames} // [] }],
        serial => uc Net::SSLeay::P_ASN1_INTEGER_get_hex(Net::SSLeay::X509_get_serialNumber($cert)),
        not_before => $info->{not_before},
        not_after => $info->{not_after},
        key_bits => Net::SSLeay::EVP_PKEY_bits($key),
        key_type => Net::SSLeay::EVP_PKEY_id($key) == 408 ? 'EC' : 'RSA',
    );
    ($fact{fingerprint} = lc Net::SSLeay::X509_get_fingerprint($cert, 'sha256')) =~ tr/://d;
    Net::SSLeay::EVP_PKEY_free($key);
    IO::Socket::SSL::Utils::CERT_free($cert);
    return \%fact;
}

# Handshake and one request. More arguments: path, host (else sni), method,
# headers => {}, body.
sub https_get
{
    my (%arg) = @_;

    my $seen = handshake(%arg, keep => 1);
    return $seen unless $seen->{ok};
    my $socket = delete $seen->{socket};
    $arg{host} //= ($arg{sni} // 'localhost') . ":$arg{port}";
    converse($socket, \%arg, $seen);
    $socket->close;
    return $seen;
}

# The same without TLS; the result has ok, error, status, headers, body.
sub http_get
{
    my (%arg) = @_;

    my $seen = { ok => 0 };
    my $socket = open_plain(\%arg);
    if (!$socket) {
        $seen->{error} = "connect to port $arg{port}: $@";
        return $seen;
    }
    $seen->{ok} = 1;
    $arg{host} //= "localhost:$arg{port}";
    converse($socket, \%arg, $seen);
    close $socket;
    return $seen;
}

# Send these very bytes (request => ...) to a plain port, and return all that comes back.
sub http_raw
{
    my (%arg) = @_;
    my $socket = open_plain(\%arg) or return;
    print {$socket} $arg{request};
    $socket->flush;
    my $answer = read_all($socket);
    close $socket;
    return $answer;
}

sub open_plain
{
    my ($arg) = @_;
    my $timeout = $arg->{timeout} // TIMEOUT;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $arg->{port},
        Proto => 'tcp', Timeout => $timeout) or return;
    setsockopt $socket, Socket::SOL_SOCKET(), Socket::SO_RCVTIMEO(), pack 'l!l!', $timeout, 0;
    return $socket;
}

sub read_all
{
    my ($socket) = @_;
    my $text = '';
    while (length $text < ANSWER_MAX) {
        my $got = sysread $socket, my $part, 65_536;
        last unless $got;
        $text .= $part;
    }
    return $text;
}

sub converse
{
    my ($socket, $arg, $seen) = @_;

    my $method = $arg->{method} // 'GET';
    my %header = (Host => $arg->{host}, Connection => 'close', %{ $arg->{headers} // {} });
    $header{'Content-Length'} = length $arg->{body} if defined $arg->{body};
    my $request = "$method " . ($arg->{path} // '/') . " HTTP/1.1\r\n"
        . join('', map { "$_: $header{$_}\r\n" } sort keys %header) . "\r\n"
        . ($arg->{body} // '');
    my $sent = 0;
    while ($sent < length $request) {
        my $n = syswrite $socket, $request, length($request) - $sent, $sent;
        last unless $n;
        $sent += $n;
    }
    my $answer = read_all($socket);
    my ($head, $body) = split /\r\n\r\n/, $answer, 2;
    if (!defined $head || $head !~ m{^HTTP/1\.[01] (\d{3})}) {
        $seen->{ok} = 0;
        $seen->{error} = 'no HTTP answer: ' . ($answer eq '' ? 'closed' : substr $answer, 0, 200);
        return;
    }
    $seen->{status} = $1;
    my @lines = split /\r\n/, $head;
    shift @lines;
    for my $line (@lines) {
        my ($name, $value) = split /:\s*/, $line, 2;
        $seen->{headers}{ lc $name } = $value;
    }
    $body //= '';
    $body = unchunk($body) if ($seen->{headers}{'transfer-encoding'} // '') =~ /chunked/i;
    $seen->{body} = $body;
    return;
}

sub unchunk
{
    my ($in) = @_;
    my $out = '';
    while ($in =~ s/^([0-9A-Fa-f]+)[^\r\n]*\r\n//) {
        my $size = hex $1;
        last if $size == 0;
        $out .= substr $in, 0, $size, '';
        $in =~ s/^\r\n//;
    }
    return $out;
}

# curl with every name leading to 127.0.0.1: (exit status, output and errors).
sub curl
{
    my (@arguments) = @_;
    return run_program(['curl', '-sS', '--noproxy', '*', '--max-time', '30', '--connect-to',
            '::127.0.0.1:', @arguments]);
}

# --- Many clients at once ---

# A handshake for each of names => [...], shared out among so many processes (clients => N). The results
# stand in the order of the names, each with ok, error, alert, serial, fingerprint, key_type, issuer_cn, seconds.
# from => [address, ...]: the clients' own addresses, in turn.
sub handshake_all
{
    my (%arg) = @_;

    my @names = @{ delete $arg{names} };
    my $clients = delete $arg{clients};
    my $from = delete $arg{from};
    my (@readers, @pids);
    for my $n (0 .. $clients - 1) {
        pipe my $reader, my $writer or die "pipe: $!\n";
        my $pid = fork // die "fork: $!\n";
        if ($pid == 0) {
            close $reader;
            for (my $i = $n; $i < @names; $i += $clients) {
                my $begin = Time::HiRes::time();
                my $seen = eval {
                    handshake(%arg, sni => $names[$i], $from ? (from => $from->[$n % @$from]) : ());
                } // { ok => 0, error => "$@" };
                $seen->{seconds} = Time::HiRes::time() - $begin;
                print {$writer} JSON::PP::encode_json([$i, { map { $_ => $seen->{$_} }
                    qw(ok error alert serial fingerprint key_type issuer_cn seconds) }]), "\n";
            }
            $writer->flush;
            POSIX::_exit(0);
        }
        close $writer;
        push @readers, $reader;
        push @pids, $pid;
    }
    my @seen;
    for my $reader (@readers) {
        while (my $line = readline $reader) {
            my ($i, $one) = @{ JSON::PP::decode_json($line) };
            $one->{name} = $names[$i];
            $seen[$i] = $one;
        }
    }
    waitpid $_, 0 for @pids;
    $seen[$_] //= { ok => 0, error => 'its client was lost', name => $names[$_] } for 0 .. $#names;
    return \@seen;
}

# --- A client in the background, for tests of what happens meanwhile ---

# Handshakes (with a request, if path is given) in a loop until load_stop(). The
# arguments are handshake()'s; sni may be a list, taken in turn. names may say what
# certificates count as right: any other is a failure.
sub load_start
{
    my (%arg) = @_;

    pipe my $reader, my $writer or die "pipe: $!\n";
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        close $reader;
        # Whatever happens, the END blocks of the test are not for this process.
        eval { load_loop($writer, %arg); 1 } or print {$writer} "0 1 $@\n";
        $writer->flush;
        POSIX::_exit(0);
    }
    close $writer;
    spit(scratch() . "/pids/$pid", "load client\n");
    my $load = { pid => $pid, reader => $reader };
    on_exit(sub { load_stop($load) });
    return $load;
}

sub load_loop
{
    my ($writer, %arg) = @_;

    my $stop = 0;
    local $SIG{TERM} = sub { $stop = 1 };
    my @names = ref $arg{sni} ? @{ $arg{sni} } : ($arg{sni});
    my ($good, $bad, $error, $turn) = (0, 0, '', 0);
    my $end = Time::HiRes::time() + LOAD_SECONDS;
    while (!$stop && Time::HiRes::time() < $end) {
        my $name = $names[$turn++ % @names];
        my $seen = defined $arg{path} ? https_get(%arg, sni => $name)
            : handshake(%arg, sni => $name);
        my $right = $seen->{ok} && (!defined $arg{path} || $seen->{status} == 200);
        # The signal that ends this may have interrupted a read.
        last if $stop && !$right;
        $right ? $good++ : $bad++;
        $error = $seen->{error} // "status $seen->{status}" if !$right && $error eq '';
        # A server that is gone must not turn this into a busy loop.
        nap($arg{pause}) if $arg{pause} || !$right;
    }
    $error =~ tr/\n/ /;
    print {$writer} "$good $bad $error\n";
    return;
}

# Stop it: {ok, failed, error}, error being the first one.
sub load_stop
{
    my ($load) = @_;

    return $load->{result} if $load->{result};
    kill 'TERM', $load->{pid};
    my $status = reap_within($load->{pid}, 2 * TIMEOUT + 5);
    if (!defined $status) {
        kill 'KILL', $load->{pid};
        reap_within($load->{pid}, 5);
    }
    my $line = readline $load->{reader};
    my ($good, $bad, $error) = split / /, $line // "0 1 the load client was lost\n", 3;
    chomp $error if defined $error;
    return $load->{result} = { ok => $good, failed => $bad, error => $error };
}

# --- Key pairs ---

# A CA: {cert, key, pem}.
sub make_ca
{
    my ($name, %opt) = @_;

    my $now = time;
    my ($cert, $key) = IO::Socket::SSL::Utils::CERT_create(
        CA => 1,
        subject => { commonName => $name // 'test CA' },
        key => IO::Socket::SSL::Utils::KEY_create_ec('prime256v1'),
        not_before => $now - 86_400,
        not_after => $now + 86_400 * ($opt{days} // 3650),
        digest => 'sha256',
    );
    return { cert => $cert, key => $key,
        pem => IO::Socket::SSL::Utils::PEM_cert2string($cert) };
}

# A pair for these names: {pem, key_pem, chain_pem}. Options: not_before, not_after
# (seconds from now; -3600 and 90 days), key ('ec' or 'rsa'), ips, cn.
sub issue_pair
{
    my ($ca, $names, %opt) = @_;

    my $now = time;
    my @san = ((map { ['DNS', $_] } @$names), map { ['IP', $_] } @{ $opt{ips} // [] });
    my ($cert, $key) = IO::Socket::SSL::Utils::CERT_create(
        subject => { commonName => $opt{cn} // $names->[0] },
        subjectAltNames => \@san,
        key => ($opt{key} // 'ec') eq 'rsa' ? IO::Socket::SSL::Utils::KEY_create_rsa(2048)
            : IO::Socket::SSL::Utils::KEY_create_ec('prime256v1'),
        issuer => [$ca->{cert}, $ca->{key}],
        purpose => 'server,client',
        not_before => $now + ($opt{not_before} // -3600),
        not_after => $now + ($opt{not_after} // 90 * 86_400),
        digest => 'sha256',
    );
    my %pair = (
        pem => IO::Socket::SSL::Utils::PEM_cert2string($cert),
        key_pem => IO::Socket::SSL::Utils::PEM_key2string($key),
        chain_pem => $ca->{pem},
    );
    IO::Socket::SSL::Utils::CERT_free($cert);
    IO::Socket::SSL::Utils::KEY_free($key);
    return \%pair;
}

# The pair as it stands in a cache: one traditional PEM key, the certificate, the chain.
sub cache_value
{
    my ($pair) = @_;

    my $file = spit(scratch() . "/pair.$$", $pair->{key_pem}, 0600);
    my ($status, $text) = run_program(['openssl', 'pkey', '-in', $file, '-traditional']);
    unlink $file;
    die "openssl pkey: $text" if $status || $text !~ /BEGIN (?:EC|RSA) PRIVATE KEY/;
    return $text . $pair->{pem} . $pair->{chain_pem};
}

1;
