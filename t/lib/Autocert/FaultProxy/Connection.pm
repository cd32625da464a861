# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# One connection of a client to a FaultProxy, in a process of its own.
package Autocert::FaultProxy::Connection;

use strict;
use warnings;

use IO::Select ();
use IO::Socket::SSL ();
use JSON::PP ();
use MIME::Base64 ();
use POSIX ();
use Socket qw(SOL_SOCKET SO_LINGER);
use Time::HiRes ();

use constant {
    LIFE_SECONDS => 300,        # of a connection that nobody ends
    HEAD_MAX     => 65_536,
    PIECE        => 16_384,
};

# Pebble's paths.
my @CLASS = (
    [qr{^/dir$}, 'directory'], [qr{^/nonce-plz$}, 'newNonce'], [qr{^/sign-me-up$}, 'newAccount'],
    [qr{^/my-account/}, 'account'], [qr{^/order-plz$}, 'newOrder'], [qr{^/my-order/}, 'order'],
    [qr{^/finalize-order/}, 'finalize'], [qr{^/authZ/}, 'authz'], [qr{^/chalZ/}, 'challenge'],
    [qr{^/certZ/}, 'cert'], [qr{^/revoke-cert$}, 'revoke'], [qr{^/list-orderz/}, 'orders'],
    [qr{^/rollover-account-key$}, 'keyChange'], [qr{/renewalInfo/}, 'renewalInfo'],
);

sub new
{
    my ($class, $proxy, $client, $tls) = @_;
    return bless { proxy => $proxy, journal => $proxy->{journal}, client => $client, tls => $tls },
        $class;
}

sub serve
{
    my ($self) = @_;

    alarm LIFE_SECONDS;
    IO::Socket::SSL->start_SSL($self->{client}, SSL_server => 1, SSL_reuse_ctx => $self->{tls},
        Timeout => 10) or return;
    my $go_on = 1;
    while ($go_on) {
        my $head = read_head($self->{client}) // return;
        my $request = $self->understand($head);
        my $rule = $self->{journal}->look(sub { return $_[0]->rule_for($request) });
        $go_on = $self->treat($request, $rule // {});
    }
    return;
}

# --- Reading ---

# {first, headers => [[name, value]...], body}; undef at the end of the connection. An answer without
# length ends with the connection.
sub read_head
{
    my ($socket, %opt) = @_;

    my $text = '';
    while ($text !~ /\r\n\r\n/) {
        my $got = sysread $socket, $text, PIECE, length $text;
        return if !$got || length $text > HEAD_MAX;
    }
    my ($head, $body) = split /\r\n\r\n/, $text, 2;
    my ($first, @lines) = split /\r\n/, $head;
    my $message = { first => $first, headers => [map { [split /:\s*/, $_, 2] } @lines], body => $body };
    my $length = header($message, 'Content-Length') // ($opt{answer} ? undef : 0);
    $length = 0 if $opt{no_body} || $first =~ m{^HTTP/\S+ (?:204|304)};
    while (!defined $length || length $message->{body} < $length) {
        my $got = sysread $socket, $message->{body}, PIECE, length $message->{body};
        return if !$got && defined $length;
        last if !$got;
    }
    $message->{ended} = !defined $length;
    return $message;
}

sub header
{
    my ($message, $name) = @_;
    my ($found) = grep { lc $_->[0] eq lc $name } @{ $message->{headers} };
    return $found ? $found->[1] : undef;
}

sub set_header
{
    my ($message, $name, $value) = @_;
    @{ $message->{headers} } = grep { lc $_->[0] ne lc $name } @{ $message->{headers} };
    push @{ $message->{headers} }, [$name, $value] if defined $value;
    return;
}

sub decode
{
    my ($text) = @_;
    my $json = eval { JSON::PP::decode_json($text) };
    return ref $json eq 'HASH' ? $json : undef;
}

sub part
{
    my ($jws, $member) = @_;
    return MIME::Base64::decode_base64url($jws && $jws->{$member} // '');
}

# The request with what it is about: a JWS is signed, but nothing in it is secret.
sub understand
{
    my ($self, $request) = @_;

    @$request{qw(method path)} = $request->{first} =~ /^(\S+) (\S+)/;
    my ($class) = map { $_->[1] } grep { $request->{path} =~ $_->[0] } @CLASS;
    my $jws = decode($request->{body});
    my $payload = part($jws, 'payload');
    my $protected = decode(part($jws, 'protected'));
    $request->{class} = $class // 'other';
    $request->{time} = Time::HiRes::time();
    $request->{payload} = length $payload ? decode($payload) : undef;
    $request->{kid} = $protected && $protected->{kid};
    my $order = $request->{class} eq 'newOrder' && $request->{payload};
    my ($key) = $request->{path} =~ m{([^/]+)$};
    $key = $request->{path} unless $request->{class} eq 'renewalInfo';
    $request->{name} = $order ? $order->{identifiers}[0]{value}
        : $self->{journal}->look(sub { return $_[0]{owner}{$key} });
    return $request;
}

# --- A request and its answer ---

# False: the connection is over.
sub treat
{
    my ($self, $request, $rule) = @_;

    for my $when ('before', 'after') {
        my $answer = $when eq 'after' ? $self->answer($request, $rule) : undef;
        for my $end ('reset', 'silent') {
            next if ($rule->{$end} // '') ne $when;
            $self->note($request, $rule, $end);
            return $self->$end;
        }
        next unless $answer;
        Time::HiRes::sleep($rule->{delay}) if $rule->{delay};
        $self->note($request, $rule, $answer->{status});
        return $self->send_answer($request, $rule, $answer);
    }
    return 0;
}

sub note
{
    my ($self, $request, $rule, $status) = @_;
    my %entry = map { $_ => $request->{$_} } qw(time class name method path payload kid);
    $self->{journal}->add({ is => 'request', %entry, status => $status, pid => $$,
        rule => $request->{limited} ? 'rate' : $rule->{id} });
    return;
}

sub answer
{
    my ($self, $request, $rule) = @_;

    return $self->invent($rule->{answer}) if $rule->{answer};
    my $refusal = $self->limit($request);
    return $refusal if $refusal;
    my $answer = $self->ask_pebble($request->{method}, $rule->{path_to} // $request->{path}, $request);
    $self->give_back($request) if $request->{token} && $answer->{status} != 201;
    if ($answer->{status} == 400 && $answer->{body} =~ /acme:error:badNonce/) {
        my @back = $rule->{set} || $rule->{json} || $rule->{edit} ? @{ $request->{matched} // [] } : ();
        $self->{journal}->add(map { { is => 'match', id => $_, by => -1 } } @back);
        return $answer;
    }
    $self->learn_urls($request, $answer);
    $self->change($request, $rule, $answer);
    return $answer;
}

# An answer that Pebble knows nothing of.
sub invent
{
    my ($self, $from) = @_;

    my $answer = { status => $from->{status} // 200, headers => [] };
    set_header($answer, $_, $from->{headers}{$_}) for sort keys %{ $from->{headers} // {} };
    $answer->{body} = $from->{json} ? JSON::PP::encode_json($from->{json}) : $from->{body} // '';
    if ($from->{nonce}) {
        my $fresh = $self->ask_pebble('HEAD', '/nonce-plz', { headers => [], body => '' });
        set_header($answer, 'Replay-Nonce', header($fresh, 'Replay-Nonce'));
    }
    return $answer;
}

# The token bucket of newOrder: its refusal, if it is one.
sub limit
{
    my ($self, $request) = @_;

    my $rate = $self->{proxy}{rate};
    return if !$rate || $request->{class} ne 'newOrder';
    return if $rate->{exempt_replaces} && $request->{payload}{replaces};
    my $wait = $self->{journal}->look(sub { return $_[0]->take_token(Time::HiRes::time()) });
    $request->{token} = !$wait;
    return if !$wait;
    $request->{limited} = 1;
    return $self->invent(Autocert::FaultProxy::problem(429, 'rateLimited',
        detail => 'too many new orders recently',
        headers => { 'Retry-After' => POSIX::ceil($wait) }));
}

sub give_back
{
    my ($self) = @_;
    $self->{journal}->add({ is => 'token', by => -1, time => Time::HiRes::time() });
    return;
}

sub change
{
    my ($self, $request, $rule, $answer) = @_;

    if (my $set = $rule->{set}) {
        $answer->{status} = $set->{status} // $answer->{status};
        $answer->{body} = $set->{body} // $answer->{body};
        set_header($answer, $_, $set->{headers}{$_}) for sort keys %{ $set->{headers} // {} };
    }
    if ($rule->{json} && (my $json = decode($answer->{body}))) {
        $self->{proxy}{edits}{ $rule->{json} }->($json, $answer, $request);
        $answer->{body} = JSON::PP::encode_json($json);
    }
    $self->{proxy}{edits}{ $rule->{edit} }->($answer, $request) if $rule->{edit};
    return;
}

# --- Pebble ---

# HTTP/1.0, so that no answer is in chunks; kept open all the same.
sub ask_pebble
{
    my ($self, $method, $path, $request) = @_;

    my $host = header($request, 'Host') // $self->{proxy}->ca;
    my $head = "$method $path HTTP/1.0\r\nHost: $host\r\nConnection: keep-alive\r\n";
    for my $pair (@{ $request->{headers} }) {
        $head .= "$pair->[0]: $pair->[1]\r\n" if $pair->[0] !~ /^(?:Host|Connection|Content-Length)$/i;
    }
    my $has_body = $method eq 'POST';
    $head .= 'Content-Length: ' . length($request->{body}) . "\r\n" if $has_body;
    for my $try (1, 2) {
        my $fresh = !$self->{pebble};
        $self->{pebble} //= IO::Socket::SSL->new(PeerAddr => '127.0.0.1', Timeout => 10,
            PeerPort => $self->{proxy}{pebble}->port, SSL_ca_file => $self->{proxy}->cafile,
            SSL_hostname => 'localhost', SSL_verifycn_name => 'localhost')
            // return { status => 502, headers => [], body => '' };
        print { $self->{pebble} } "$head\r\n" . ($has_body ? $request->{body} : '');
        my $answer = read_head($self->{pebble}, answer => 1, no_body => $method eq 'HEAD');
        if ($answer) {
            ($answer->{status}) = $answer->{first} =~ m{^HTTP/\S+ (\d+)};
            delete $self->{pebble} if $answer->{ended}
                || (header($answer, 'Connection') // '') !~ /keep-alive/i;
            return $answer;
        }
        delete $self->{pebble};
        last if $fresh;
    }
    return { status => 502, headers => [], body => '' };
}

# Which name the URLs of an answer belong to.
sub learn_urls
{
    my ($self, $request, $answer) = @_;

    my $json = decode($answer->{body}) // {};
    my $name = $request->{class} eq 'authz' ? $json->{identifier}{value} : $request->{name};
    return if !defined $name || $answer->{status} >= 300;
    my @urls = map { $_->{url} } @{ $json->{challenges} // [] };
    push @urls, header($answer, 'Location'), $json->{finalize}, $json->{certificate},
        @{ $json->{authorizations} // [] };
    my @keys = map { m{^https://[^/]+(/.*)$} ? $1 : () } grep { defined } @urls;
    push @keys, renewal_key($answer->{body}) if $request->{class} eq 'cert';
    $self->{journal}->add(map { { is => 'url', path => $_, name => $name } } @keys);
    return;
}

# RFC 9773 section 4.1: what a certificate is called in renewal information.
sub renewal_key
{
    my ($pem) = @_;
    my ($base64) = $pem =~ /-----BEGIN CERTIFICATE-----(.*?)-----END/s or return;
    my $der = MIME::Base64::decode_base64($base64);
    my ($serial) = $der =~ m{\xa0\x03\x02\x01\x02\x02(.*)}s or return;
    my ($issuer) = $der =~ m{\x06\x03\x55\x1d\x23\x04.\x30.\x80(.*)}s or return;
    return join '.', map { MIME::Base64::encode_base64url(substr $_, 1, ord) } $issuer, $serial;
}

# --- Answering ---

sub send_answer
{
    my ($self, $request, $rule, $answer) = @_;

    set_header($answer, 'Connection', undef);
    set_header($answer, 'Content-Length', undef);
    my $length = length $answer->{body};
    my $text = "HTTP/1.1 $answer->{status} " . ($answer->{status} < 300 ? 'OK' : 'Fault') . "\r\n"
        . join('', map { "$_->[0]: $_->[1]\r\n" } @{ $answer->{headers} })
        . ($answer->{status} == 204 ? '' : "Content-Length: $length\r\n") . "\r\n";
    print { $self->{client} } $text or return 0;
    my $keep = (header($request, 'Connection') // '') !~ /close/i;
    return $keep if $request->{method} eq 'HEAD' || $answer->{status} == 204;
    my $body = $rule->{cut} ? substr $answer->{body}, 0, $length / 2 : $answer->{body};
    for my $piece ($rule->{drip} ? split //, $body : $body) {
        Time::HiRes::sleep($rule->{drip}) if $rule->{drip};
        print { $self->{client} } $piece or return 0;
    }
    return $keep && !$rule->{cut};
}

sub reset
{
    my ($self) = @_;
    setsockopt $self->{client}, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
    $self->{client}->close(SSL_no_shutdown => 1);
    return 0;
}

# Until the client gives up.
sub silent
{
    my ($self) = @_;
    IO::Select->new($self->{client})->can_read(LIFE_SECONDS);
    return 0;
}

1;
