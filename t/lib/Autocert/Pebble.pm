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
#             t/lib/fetch-newer puts below the build directory
#   env       PEBBLE_* variables besides or instead of the defaults
#   config    {field => value} put into the "pebble" object of its configuration
#   strict    true: -strict
#   dns       another DNS server than one of its own, which is started if it does not run
#   lifetime  of certificates, in seconds
#   name      of its directory, in messages
package Autocert::Pebble;

use strict;
use warnings;

use parent 'Autocert::Program';

use JSON::PP ();

use Autocert::Client ();
use Autocert::Dns ();
use Autocert::Util qw(free_ports spit build_dir);

# Deterministic but for refused nonces, which every client must live with.
my %ENV_DEFAULT = (
    PEBBLE_VA_NOSLEEP => 1,
    PEBBLE_WFE_NONCEREJECT => 20,
    PEBBLE_AUTHZREUSE => 0,
);

my $count = 0;

sub new
{
    my ($class, %arg) = @_;

    $count++;
    my $self = $class->SUPER::new(name => "pebble$count", %arg);
    ($self->{program}, my $dns_program) = find_programs($self->{new});
    @$self{qw(port management)} = free_ports(2);
    $self->{dns} //= Autocert::Dns->new(name => "$self->{name}-dns", program => $dns_program,
        new => $self->{new});
    $self->{http} //= free_ports(1);
    $self->{https} //= free_ports(1);
    $self->make_pair;
    $self->write_config;
    return $self;
}

sub find_programs
{
    my ($new) = @_;
    if ($new) {
        my $dir = build_dir() . '/pebble-new/usr/bin';
        my @programs = ("$dir/pebble", "$dir/pebble-challtestsrv");
        -x or die "$_ is missing: run t/lib/fetch-newer build pebble\n" for @programs;
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
sub dns_port        { return $_[0]{dns}->port }
sub http            { return $_[0]{http} }
sub https           { return $_[0]{https} }
sub url             { return "https://localhost:$_[0]{port}/dir" }

# Values for Server->new(vars => {...}): @pebble@ and @cafile@.
sub vars
{
    my ($self) = @_;
    return { pebble => $self->url, cafile => $self->cafile };
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
    $self->{dns}->start unless $self->{dns}->pid;
    return $self->SUPER::start;
}

sub start_ca
{
    my ($self) = @_;
    $self->SUPER::start;
    return;
}

sub command
{
    my ($self) = @_;
    return [$self->{program}, '-config', "$self->{dir}/pebble.json",
        '-dnsserver', '127.0.0.1:' . $self->dns_port, $self->{strict} ? '-strict' : ()];
}

sub environment
{
    my ($self) = @_;
    return { %ENV_DEFAULT, %{ $self->{env} // {} } };
}

sub ports { return @{ $_[0] }{qw(port management)} }

# Stopped is the CA, not its DNS, by stop(). All that it knows is lost, its roots too. start_ca()
# or start() brings a new one to life on the same ports.
sub kill_ca
{
    $_[0]->stop('KILL');
    return;
}

sub stop_all
{
    my ($self) = @_;
    $self->stop;
    $self->{dns}->stop;
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

# A command of its DNS: dns_set('add-a', host => 'x.test', addresses => ['127.0.0.9']).
sub dns_set
{
    my ($self, @command) = @_;
    return $self->{dns}->set(@command);
}

# Orders that were created. Requests do not count: some have their nonce refused.
sub orders
{
    my ($self, $mark) = @_;
    my $count = () = $self->log($mark) =~ /\bAdded order "/g;
    return $count;
}

1;
