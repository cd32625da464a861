# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Pebble, the test CA, with pebble-challtestsrv as its DNS: every name is 127.0.0.1.
#
#   my ($http, $https) = free_ports(2);
#   my $pebble = Autocert::Pebble->new(http => $http, https => $https)->start;
#   ... "AutocertCA " . $pebble->url . " cafile=" . $pebble->cafile
#
# Arguments of new(), all optional:
#   http, https   where challenges are tried: the ports of the server under test
#   new       true: the newer Pebble (renewal information, profiles) that
#             t/lib/fetch-pebble puts below the build directory
#   env       PEBBLE_* variables besides or instead of the defaults
#   config    {field => value} put into the "pebble" object of its configuration
#   strict    true: -strict
#   lifetime  of certificates, in seconds
#   name      of its directory, in messages
package Autocert::Pebble;

use strict;
use warnings;

use File::Path ();
use JSON::PP ();

use Autocert::Client ();
use Autocert::Server ();
use Autocert::Util qw(wait_until free_ports slurp spit build_dir spawn reap_within can_connect
    on_exit fail_file);

use constant {
    START_SECONDS => 20,
    STOP_SECONDS  => 5,
    TAIL_LINES    => 40,
};

# Deterministic but for refused nonces, which every client must live with.
my %ENV_DEFAULT = (
    PEBBLE_VA_NOSLEEP => 1,
    PEBBLE_WFE_NONCEREJECT => 20,
    PEBBLE_AUTHZREUSE => 0,
);

my @all;
my $count = 0;

sub new
{
    my ($class, %arg) = @_;

    my $self = bless {%arg}, $class;
    $count++;
    $self->{name} //= "pebble$count";
    die "two CAs are called $self->{name}\n" if grep { $_->{name} eq $self->{name} } @all;
    $self->{dir} = Autocert::Server::work_dir() . "/$self->{name}";
    File::Path::remove_tree($self->{dir});
    File::Path::make_path($self->{dir});
    ($self->{program}, $self->{dns_program}) = find_programs($self->{new});
    @$self{qw(port management dns dns_management)} = free_ports(4);
    $self->{http} //= free_ports(1);
    $self->{https} //= free_ports(1);
    $self->make_pair;
    $self->write_config;
    push @all, $self;
    return $self;
}

sub find_programs
{
    my ($new) = @_;
    if ($new) {
        my $dir = build_dir() . '/pebble-new/usr/bin';
        my @programs = ("$dir/pebble", "$dir/pebble-challtestsrv");
        -x or die "$_ is missing: run t/lib/fetch-pebble\n" for @programs;
        return @programs;
    }
    my @programs;
    for my $name (qw(pebble pebble-challtestsrv)) {
        my ($path) = grep { -x } map { "$_/$name" } split /:/, $ENV{PATH};
        push @programs, $path // die "$name is missing (package pebble)\n";
    }
    return @programs;
}

sub port            { return $_[0]{port} }
sub management_port { return $_[0]{management} }
sub dns_port        { return $_[0]{dns} }
sub http            { return $_[0]{http} }
sub https           { return $_[0]{https} }
sub dir             { return $_[0]{dir} }
sub url             { return "https://localhost:$_[0]{port}/dir" }
sub cafile          { return "$_[0]{dir}/tls-ca.pem" }
sub log_file        { return "$_[0]{dir}/pebble.log" }

# Values for Server->new(vars => {...}): @pebble@ and @cafile@.
sub vars
{
    my ($self) = @_;
    return { pebble => $self->url, cafile => $self->cafile };
}

sub make_pair
{
    my ($self) = @_;
    my $ca = Autocert::Client::make_ca("TLS CA of $self->{name}");
    my $pair = Autocert::Client::issue_pair($ca, ['localhost'], ips => ['127.0.0.1']);
    spit($self->cafile, $ca->{pem});
    spit("$self->{dir}/tls.pem", $pair->{pem});
    spit("$self->{dir}/tls.key", $pair->{key_pem}, 0600);
    return;
}

sub write_config
{
    my ($self) = @_;

    # Fields that one of the two versions does not know are ignored by it.
    my $lifetime = $self->{lifetime} // 90 * 86_400;
    my %config = (
        listenAddress => "127.0.0.1:$self->{port}",
        managementListenAddress => "127.0.0.1:$self->{management}",
        certificate => "$self->{dir}/tls.pem",
        privateKey => "$self->{dir}/tls.key",
        httpPort => $self->{http} + 0,
        tlsPort => $self->{https} + 0,
        ocspResponderURL => '',
        externalAccountBindingRequired => JSON::PP::false(),
        certificateValidityPeriod => $lifetime + 0,
        # One only: an order that names none gets a random one.
        profiles => {
            default => { description => 'the only one', validityPeriod => $lifetime + 0 },
        },
        %{ $self->{config} // {} },
    );
    spit("$self->{dir}/pebble.json", JSON::PP->new->canonical->encode({ pebble => \%config }));
    return;
}

sub start
{
    my ($self) = @_;
    $self->start_dns unless $self->{dns_pid};
    $self->start_ca;
    return $self;
}

sub start_dns
{
    my ($self) = @_;

    my $listen = $self->{new} ? '-dnsserver' : '-dns01';
    my @command = ($self->{dns_program}, '-http01', '', '-https01', '', '-tlsalpn01', '',
        '-defaultIPv4', '127.0.0.1', '-defaultIPv6', '', $listen, "127.0.0.1:$self->{dns}",
        '-management', "127.0.0.1:$self->{dns_management}");
    push @command, '-doh', '' if $self->{new};
    $self->{dns_pid} = spawn(\@command, output => "$self->{dir}/dns.log", dir => $self->{dir});
    my $up = wait_until(START_SECONDS, sub {
        return 'dead' if defined reap_within($self->{dns_pid}, 0);
        return can_connect($self->{dns}) && can_connect($self->{dns_management}) ? 'up' : 0;
    }) // 'late';
    die "DNS of $self->{name} is $up: " . (slurp("$self->{dir}/dns.log") // '') if $up ne 'up';
    return;
}

sub start_ca
{
    my ($self) = @_;

    die "$self->{name} runs already\n" if $self->{pid};
    my @command = ($self->{program}, '-config', "$self->{dir}/pebble.json",
        '-dnsserver', "127.0.0.1:$self->{dns}");
    push @command, '-strict' if $self->{strict};
    $self->{pid} = spawn(\@command, output => $self->log_file, dir => $self->{dir},
        env => { %ENV_DEFAULT, %{ $self->{env} // {} } });
    my $up = wait_until(START_SECONDS, sub {
        return 'dead' if defined reap_within($self->{pid}, 0);
        return can_connect($self->{port}) && can_connect($self->{management}) ? 'up' : 0;
    }) // 'late';
    die "$self->{name} is $up: " . $self->log if $up ne 'up';
    return;
}

# Stop the CA, not its DNS. All that it knows is lost, its roots too. start_ca()
# or start() brings a new one to life on the same ports.
sub stop
{
    my ($self, $signal) = @_;
    my $pid = delete $self->{pid} // return;
    kill $signal // 'TERM', $pid;
    return if defined reap_within($pid, STOP_SECONDS);
    kill 'KILL', $pid;
    reap_within($pid, STOP_SECONDS);
    return;
}

sub kill_ca
{
    $_[0]->stop('KILL');
    return;
}

sub stop_all
{
    my ($self) = @_;
    $self->stop;
    my $pid = delete $self->{dns_pid} // return;
    kill 'KILL', $pid;
    reap_within($pid, STOP_SECONDS);
    return;
}

# The whole answer of the management interface, as https_get() has it; body makes
# it a POST.
sub manage
{
    my ($self, $path, $body) = @_;
    return Autocert::Client::https_get(
        port => $self->{management}, sni => 'localhost', ca => $self->cafile, path => $path,
        headers => { 'User-Agent' => 'autocert-test' },
        defined $body ? (method => 'POST', body => $body) : (),
    );
}

# A file with the root that its certificates lead to; n is that of an alternate chain.
sub root
{
    my ($self, $n) = @_;
    $n //= 0;
    my $answer = $self->manage("/roots/$n");
    die "no root $n: " . ($answer->{error} // $answer->{body}) . "\n"
        unless $answer->{ok} && $answer->{status} == 200;
    return spit("$self->{dir}/root$n.pem", $answer->{body});
}

# "Valid" or "Revoked", by serial number in hex; undef if unknown to the CA.
sub certificate_status
{
    my ($self, $serial) = @_;
    my $answer = $self->manage('/cert-status-by-serial/' . lc $serial);
    return unless $answer->{ok} && $answer->{status} == 200;
    return JSON::PP::decode_json($answer->{body})->{Status};
}

# Renewal information for a certificate (newer Pebble only): the literal body.
sub set_renewal_info
{
    my ($self, $pem, $answer) = @_;
    return $self->manage('/set-renewal-info/',
        JSON::PP::encode_json({ Certificate => $pem, ARIResponse => $answer }));
}

# A command of pebble-challtestsrv: dns('add-a', host => 'x.test', addresses => ['127.0.0.9']).
sub dns_set
{
    my ($self, $command, %argument) = @_;
    my $answer = Autocert::Client::http_get(port => $self->{dns_management}, method => 'POST',
        path => "/$command", body => JSON::PP::encode_json(\%argument));
    die "challtestsrv $command: " . ($answer->{error} // $answer->{status}) . "\n"
        unless $answer->{ok} && $answer->{status} == 200;
    return $answer->{body};
}

sub mark
{
    return -s $_[0]->log_file // 0;
}

sub log
{
    my ($self, $mark) = @_;
    return slurp($self->log_file, $mark // 0) // '';
}

sub wait_for_log
{
    my ($self, $pattern, $seconds, $mark) = @_;
    return wait_until($seconds // 10, sub {
        return $self->log($mark) =~ $pattern ? $1 // $& : undef;
    }, "$pattern in the log of $self->{name}");
}

# Orders that were created. Requests do not count: some have their nonce refused.
sub orders
{
    my ($self, $mark) = @_;
    my $count = () = $self->log($mark) =~ /\bAdded order "/g;
    return $count;
}

on_exit(sub {
    my ($status) = @_;
    my $tb = Test::Builder->new;
    for my $self (@all) {
        if ($self->{pid} && defined reap_within($self->{pid}, 0)) {
            fail_file("$self->{name} died: see " . $self->log_file);
            delete $self->{pid};
        }
        $self->stop_all;
        next if !$status && $tb->is_passing;
        my @lines = split /\n/, $self->log;
        splice @lines, 0, @lines - TAIL_LINES if @lines > TAIL_LINES;
        $tb->diag("--- log of $self->{name}, last lines:");
        $tb->diag($_) for @lines;
    }
});

1;
