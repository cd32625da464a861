# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# pebble-challtestsrv as the DNS of a CA: every name is 127.0.0.1 unless it is told otherwise.
#
#   my $dns = Autocert::Dns->new->start;
#   $dns->set('add-a', host => 'x.test', addresses => ['127.0.0.9']);
#
# Arguments of new(), all optional:
#   port      where it answers, by UDP and TCP; else a free one
#   program   another than the packaged one; new => true if it is the newer version
#   name      of its directory, in messages
package Autocert::Dns;

use strict;
use warnings;

use parent 'Autocert::Program';

use JSON::PP ();

use Autocert::Client ();
use Autocert::Util qw(free_ports);

sub new
{
    my ($class, %arg) = @_;

    my $self = $class->SUPER::new(name => 'dns', program => 'pebble-challtestsrv', %arg);
    $self->{port} //= free_ports(1);
    $self->{management} = free_ports(1);
    return $self;
}

sub port  { return $_[0]{port} }
sub ports { return @{ $_[0] }{qw(port management)} }

sub command
{
    my ($self) = @_;
    return [$self->{program}, '-http01', '', '-https01', '', '-tlsalpn01', '',
        '-defaultIPv4', '127.0.0.1', '-defaultIPv6', '',
        '-management', "127.0.0.1:$self->{management}",
        $self->{new} ? ('-doh', '', '-dnsserver') : '-dns01', "127.0.0.1:$self->{port}"];
}

# It keeps nothing that could be lost.
sub stop
{
    my ($self) = @_;
    return $self->SUPER::stop('KILL');
}

# A command of its management interface.
sub set
{
    my ($self, $command, %argument) = @_;
    my $answer = Autocert::Client::http_get(port => $self->{management}, method => 'POST',
        path => "/$command", body => JSON::PP::encode_json(\%argument));
    die "challtestsrv $command: " . ($answer->{error} // $answer->{status}) . "\n"
        unless $answer->{ok} && $answer->{status} == 200;
    return $answer->{body};
}

1;
