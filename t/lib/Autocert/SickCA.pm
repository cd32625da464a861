# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# A CA that gives every request the same refusal, on the port and with the certificate of a Pebble
# that does not run, and writes down the latest request.
#
#   my $ca = Autocert::SickCA->new($pebble, '503 Busy');
#   $ca->request       the latest request, or undef
#   $ca->stop          (at exit by itself)

package Autocert::SickCA;

use strict;
use warnings;

use IO::Socket::INET ();
use IO::Socket::SSL ();
use POSIX ();

use Autocert::Util qw(slurp spit scratch on_exit reap_within);

sub new
{
    my ($class, $pebble, $status) = @_;

    my $self = bless { file => $pebble->dir . '/request' }, $class;
    my $listener = IO::Socket::INET->new(Listen => 16, LocalAddr => '127.0.0.1',
        LocalPort => $pebble->port, Proto => 'tcp', ReuseAddr => 1) // die "listen: $@\n";
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        $SIG{TERM} = 'DEFAULT';
        $self->answer($listener, $pebble->dir, $status);
        POSIX::_exit(0);
    }
    close $listener;
    $self->{pid} = $pid;
    spit(scratch() . "/pids/$pid", "sick CA\n");
    on_exit(sub { $self->stop });
    return $self;
}

sub answer
{
    my ($self, $listener, $dir, $status) = @_;

    for (;;) {
        my $tcp = $listener->accept or next;
        my $tls = IO::Socket::SSL->start_SSL($tcp, SSL_server => 1, Timeout => 10,
            SSL_cert_file => "$dir/tls.pem", SSL_key_file => "$dir/tls.key") or next;
        sysread $tls, my $request, 16_384;
        spit("$self->{file}.new", $request // '');
        rename "$self->{file}.new", $self->{file};
        syswrite $tls, "HTTP/1.1 $status\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        $tls->close;
    }
    return;
}

sub request
{
    my ($self) = @_;
    return slurp($self->{file});
}

sub stop
{
    my ($self) = @_;
    my $pid = delete $self->{pid} // return;
    kill 'KILL', $pid;
    reap_within($pid, 5);
    return;
}

1;
