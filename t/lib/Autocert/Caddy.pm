# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# The CA that Caddy is (acme_server, of step's make). It tries challenges on ports 80 and 443 of what
# the machine's resolver says, so it needs an Autocert::Namespace and an Autocert::Dns on port 53.
#
#   my $caddy = Autocert::Caddy->new->start;
#   ... "AutocertCA " . $caddy->url . " cafile=" . $caddy->cafile
#
# Arguments of new(), all optional:
#   new       true: the newer Caddy that t/lib/fetch-newer puts below the build directory. Only it has
#     lifetime   of certificates, as "5m", which is the least; else 12 hours
#     deny       [NAME...] that it refuses
#     proxied    true: it asks for http-01's answers through the server under test as its proxy,
#                wherever that listens, which needs no namespace; then there is no tls-alpn-01
#   name      of its directory, in messages
package Autocert::Caddy;

use strict;
use warnings;

use parent 'Autocert::Program';

use File::Path ();
use JSON::PP ();

use Autocert::Util qw(free_ports spit build_dir);

use constant { HTTP => 80, HTTPS => 443 };

my $count = 0;

sub new
{
    my ($class, %arg) = @_;

    $count++;
    my $self = $class->SUPER::new(name => "caddy$count", %arg);
    $self->{program} = find_program($self->{new});
    $self->{port} = free_ports(1);
    @$self{qw(http https)} = $self->{proxied} ? free_ports(2) : (HTTP, HTTPS);
    $self->make_pair;
    $self->write_config;
    return $self;
}

sub find_program
{
    my ($new) = @_;

    my $path = $new ? build_dir() . '/caddy-new/usr/bin/caddy'
        : (grep { -x } map { "$_/caddy" } split /:/, $ENV{PATH})[0];
    return $path if defined $path && -x $path;
    die $new ? "$path is missing: run t/lib/fetch-newer build caddy\n"
        : "caddy is missing (package caddy)\n";
}

sub port  { return $_[0]{port} }
sub http  { return $_[0]{http} }
sub https { return $_[0]{https} }
sub ports { return $_[0]{port} }
sub url   { return "https://localhost:$_[0]{port}/acme/local/directory" }
sub data  { return "$_[0]{dir}/data/caddy" }

# The certificate that those it issues lead to, which stays the same.
sub root { return $_[0]->data . '/pki/authorities/local/root.crt' }

# Values for Server->new(vars => {...}), named as those of the other CA.
sub vars
{
    my ($self) = @_;
    return { pebble => $self->url, cafile => $self->cafile };
}

sub write_config
{
    my ($self) = @_;

    my $options = '';
    $options .= "lifetime $self->{lifetime}\n" if $self->{lifetime};
    $options .= "deny {\ndomains @{ $self->{deny} }\n}\n" if $self->{deny};
    # Its root must not get into the trust store of this machine: skip_install_trust holds in newer versions
    # only for a CA that is named.
    spit("$self->{dir}/Caddyfile", <<"CONF");
{
    admin off
    skip_install_trust
    auto_https off
    pki {
        ca local {
            name "the CA of $self->{name}"
        }
    }
}
https://localhost:$self->{port} {
    bind 127.0.0.1
    tls $self->{dir}/tls.pem $self->{dir}/tls.key
    log {
        output stderr
        format json
    }
    acme_server {
        $options
    }
}
CONF
    return;
}

sub command
{
    my ($self) = @_;
    return [$self->{program}, 'run', '--config', "$self->{dir}/Caddyfile", '--adapter', 'caddyfile'];
}

sub environment
{
    my ($self) = @_;
    return {
        HOME => $self->{dir},
        # Whatever it could install a root with it does not find.
        PATH => $self->{dir},
        XDG_DATA_HOME => "$self->{dir}/data",
        XDG_CONFIG_HOME => "$self->{dir}/config",
        # /etc/nsswitch.conf may name a resolver that is not in the namespace.
        GODEBUG => 'netdns=go',
        $self->{proxied} ? (HTTP_PROXY => "http://127.0.0.1:$self->{http}") : (),
    };
}

sub start
{
    my ($self) = @_;
    $self->SUPER::start;
    die "$self->{name} wants to change the trust store of this machine: " . $self->log
        if $self->log =~ /installing root certificate/;
    return $self;
}

# All accounts and orders; it must not run.
sub forget
{
    my ($self) = @_;
    File::Path::remove_tree($self->data . '/acme_server');
    return;
}

# Requests as it logged them: hashes with method, path and status; those of one path if it is given.
sub requests
{
    my ($self, $path, $mark) = @_;

    my @found;
    for my $line (split /\n/, $self->log($mark)) {
        my $entry = eval { JSON::PP::decode_json($line) } // next;
        my $request = $entry->{request} // next;
        next unless defined $entry->{status};
        (my $end = $request->{uri}) =~ s{^/acme/local/}{};
        next if defined $path && $path ne $end;
        push @found, { method => $request->{method}, path => $end, status => $entry->{status} };
    }
    return @found;
}

sub count_created
{
    my ($self, $path, $mark) = @_;
    return scalar grep { $_->{status} == 201 } $self->requests($path, $mark);
}

sub accounts { return $_[0]->count_created('new-account', $_[1]) }
sub orders   { return $_[0]->count_created('new-order', $_[1]) }

1;
