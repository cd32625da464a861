# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# A proxy before Pebble that does to its answers what CAs in the field do. Pebble's URLs follow the
# Host header, so the directory seen through the proxy leads through the proxy.
#
#   my $proxy = Autocert::FaultProxy->new(pebble => $pebble, edits => {
#       caa => sub { my ($json, $answer, $request) = @_; $json->{status} = 'invalid' },
#   })->start;
#   my $server = Autocert::Server->with_ca($pebble, vars => $proxy->vars, config => ...);
#   my $id = $proxy->rule(name => 'a.example.test', class => 'finalize', to => 1,
#       answer => Autocert::FaultProxy::problem(403, 'orderNotReady'));
#   $proxy->clear($id);               # or all of them: clear()
#   is $proxy->count(class => 'newOrder', name => 'a.example.test'), 2, 'two orders';
#
# Arguments of new(): pebble; the optional ones:
#   edits   {name => function} for the rules' json and edit; they run in the proxy's processes
#   rules   [{...}, ...] as for rule()
#   rate    {capacity, period, exempt_replaces}: newOrder has a token bucket, as at Let's Encrypt
#   port    where it listens
#
# A rule says which requests it is for, by these (each may be left out; class and name may be lists):
#   name    the name of the order that the URL belongs to
#   class   directory newNonce newAccount account newOrder order authz challenge finalize cert
#           renewalInfo revoke keyChange orders other
#   method  GET, HEAD, POST
#   path    a regular expression for the path, as text
#   from, to   only the matching requests number from .. to (from 1 on; both inclusive)
# The first rule added that is for a request applies, and no other. And what happens:
#   answer  {status, headers => {...}, body or json, nonce => 1}: given without asking Pebble;
#           nonce puts in a good Replay-Nonce
#   path_to    another path for Pebble
#   set     {status, headers => {...}, body}: put into Pebble's answer; a header undef is removed
#   json    name of an edit, given the decoded body to change in place, the answer, the request
#   edit    name of an edit, given the answer {status, headers => [[name, value]...], body}, the request
#   delay   seconds before the answer
#   reset   'before' or 'after' Pebble was asked: the connection ends with a RST
#   silent  'before' or 'after': no answer ever
#   cut     true: the connection ends in the middle of the body
#   drip    seconds before each byte of the body
# Nonces that Pebble refuses are passed on untouched and are not counted by set, json and edit rules.
package Autocert::FaultProxy;

use strict;
use warnings;

use IO::Socket::INET ();
use IO::Socket::SSL ();
use JSON::PP ();
use POSIX ();

use Autocert::FaultProxy::Connection ();
use Autocert::FaultProxy::Journal ();
use Autocert::Util qw(free_ports spit scratch wait_until reap_within on_exit);

my $count = 0;

sub new
{
    my ($class, %arg) = @_;
    my $self = bless {%arg}, $class;
    $self->{port} //= free_ports(1);
    $self->{journal} = Autocert::FaultProxy::Journal->new(
        scratch() . "/fault-proxy.$$." . ++$count, rate => $self->{rate});
    $self->rule(%$_) for @{ $self->{rules} // [] };
    return $self;
}

sub port   { return $_[0]{port} }
sub url    { return "https://localhost:$_[0]{port}/dir" }
sub cafile { return $_[0]{pebble}->cafile }
# "localhost:PORT", as logs have the CA.
sub ca     { return "localhost:$_[0]{port}" }

sub vars
{
    my ($self) = @_;
    return { pebble => $self->url, cafile => $self->cafile };
}

# An answer with a problem document (RFC 8555 section 6.7). more: headers, members of the document.
sub problem
{
    my ($status, $type, %more) = @_;
    my $headers = delete $more{headers} // {};
    return {
        status => $status,
        nonce => 1,
        headers => { 'Content-Type' => 'application/problem+json', %$headers },
        json => { type => "urn:ietf:params:acme:error:$type", status => $status,
            detail => "fault: $type", %more },
    };
}

sub start
{
    my ($self) = @_;

    my $listener = IO::Socket::INET->new(Listen => 128, LocalAddr => '127.0.0.1',
        LocalPort => $self->{port}, Proto => 'tcp', ReuseAddr => 1)
        // die "fault proxy on port $self->{port}: $@\n";
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        $SIG{TERM} = 'DEFAULT';
        POSIX::setpgid(0, 0);
        eval { $self->accept_loop($listener); 1 } or warn "fault proxy: $@";
        POSIX::_exit(0);
    }
    POSIX::setpgid($pid, $pid);
    close $listener;
    spit(scratch() . "/pids/$pid", "fault proxy\n");
    $self->{pid} = $pid;
    on_exit(sub { $self->stop });
    return $self;
}

sub stop
{
    my ($self) = @_;
    my $pid = delete $self->{pid} // return;
    kill 'KILL', -$pid;
    reap_within($pid, 5);
    return;
}

# A process for each connection: the client keeps them, and uses several.
sub accept_loop
{
    my ($self, $listener) = @_;

    local $SIG{CHLD} = 'IGNORE';
    my $dir = $self->{pebble}->dir;
    my $tls = IO::Socket::SSL::SSL_Context->new(SSL_server => 1, SSL_cert_file => "$dir/tls.pem",
        SSL_key_file => "$dir/tls.key") // die "no TLS: $IO::Socket::SSL::SSL_ERROR\n";
    for (;;) {
        my $client = $listener->accept or next;
        # What is known already need not be read again by the child.
        $self->{journal}->look(sub { });
        my $pid = fork // next;
        if ($pid == 0) {
            close $listener;
            eval {
                Autocert::FaultProxy::Connection->new($self, $client, $tls)->serve;
                1;
            } or warn "fault proxy: $@";
            POSIX::_exit(0);
        }
        close $client;
    }
    return;
}

# --- What a test asks and says ---

# Add a rule; its id.
sub rule
{
    my ($self, %rule) = @_;
    for my $edit (grep { defined } @rule{qw(json edit)}) {
        die "no edit is called $edit\n" unless $self->{edits} && $self->{edits}{$edit};
    }
    $rule{id} = 'rule' . ++$self->{rules_made};
    $self->{journal}->add({ is => 'rule', rule => \%rule });
    return $rule{id};
}

# Take rules away; without ids all.
sub clear
{
    my ($self, @ids) = @_;
    $self->{journal}->add({ is => 'clear', ids => \@ids });
    return;
}

# Requests so far that have these: class, name, method, status, rule ("rate": refused by the token
# bucket). Each has also time, path, payload (decoded), kid (undef when it is signed by jwk).
sub requests
{
    my ($self, %want) = @_;
    my @all = @{ $self->{journal}->look(sub { return $_[0]{requests} }) };
    for my $key (keys %want) {
        @all = grep { defined $_->{$key} && $_->{$key} eq $want{$key} } @all;
    }
    return @all;
}

sub count
{
    my @found = requests(@_);
    return scalar @found;
}

# Like wait_until(): at least n such requests.
sub wait_for
{
    my ($self, $seconds, $n, %want) = @_;
    return wait_until($seconds, sub { $self->count(%want) >= $n },
        "$n requests with " . join ' ', map { "$_=$want{$_}" } sort keys %want);
}

# Payloads of the orders that were placed (with 201, so not those whose nonce was refused).
sub orders
{
    my ($self, %want) = @_;
    return map { $_->{payload} } $self->requests(class => 'newOrder', status => 201, %want);
}

1;
