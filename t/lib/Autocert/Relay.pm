# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# A way on loopback between httpd and its CA that can be opened and closed without the
# CA losing what it knows.
#
#   my $relay = Autocert::Relay->new(to => $pebble->port);        # every connection goes there
#   $relay->start;                                               # until then: refused
#   my $proxy = Autocert::Relay->new(connect => 1)->start;       # an HTTP proxy, CONNECT only
#   $proxy->log                                                  # "CONNECT host:port" lines
package Autocert::Relay;

use strict;
use warnings;

use IO::Select ();
use IO::Socket::INET ();
use POSIX ();

use Autocert::Util qw(free_ports slurp spit scratch reap_within on_exit);

use constant {
    PIECE          => 16_384,
    LIFE_SECONDS   => 300,       # of a connection that nobody ends
};

my $count = 0;

sub new
{
    my ($class, %arg) = @_;
    my $self = bless {%arg}, $class;
    $self->{port} //= free_ports(1);
    $self->{log_file} = scratch() . "/relay.$$." . ++$count;
    return $self;
}

sub port { return $_[0]{port} }
sub log  { return slurp($_[0]{log_file}) // '' }

# The directory of this CA, seen through the relay.
sub url
{
    my ($self) = @_;
    return "https://localhost:$self->{port}/dir";
}

sub start
{
    my ($self) = @_;

    my $listener = IO::Socket::INET->new(Listen => 64, LocalAddr => '127.0.0.1',
        LocalPort => $self->{port}, Proto => 'tcp', ReuseAddr => 1)
        // die "relay on port $self->{port}: $@\n";
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        $SIG{TERM} = 'DEFAULT';
        POSIX::setpgid(0, 0);
        eval { accept_loop($self, $listener) };
        POSIX::_exit(0);
    }
    close $listener;
    spit(scratch() . "/pids/$pid", "relay\n");
    $self->{pid} = $pid;
    on_exit(sub { $self->stop });
    return $self;
}

sub stop
{
    my ($self) = @_;
    my $pid = delete $self->{pid} // return;
    kill 'KILL', -$pid, $pid;
    reap_within($pid, 5);
    unlink scratch() . "/pids/$pid";
    return;
}

sub accept_loop
{
    my ($self, $listener) = @_;
    local $SIG{CHLD} = 'IGNORE';
    for (;;) {
        my $client = $listener->accept or next;
        my $pid = fork // next;
        if ($pid == 0) {
            close $listener;
            alarm LIFE_SECONDS;
            eval { serve($self, $client) };
            POSIX::_exit(0);
        }
        close $client;
    }
    return;
}

sub note
{
    my ($self, $line) = @_;
    open my $out, '>>', $self->{log_file} or return;
    syswrite $out, "$line\n";
    close $out;
    return;
}

sub serve
{
    my ($self, $client) = @_;

    my ($host, $port) = ('127.0.0.1', $self->{to});
    if ($self->{connect}) {
        my $request = '';
        while ($request !~ /\r\n\r\n/ && length $request < PIECE) {
            sysread $client, $request, 1, length $request or return;
        }
        ($host, $port) = $request =~ m{^CONNECT ([^:\s]+):(\d+) HTTP/} or do {
            note($self, 'refused ' . ($request =~ /^([^\r\n]*)/)[0]);
            syswrite $client, "HTTP/1.1 405 Method Not Allowed\r\n\r\n";
            return;
        };
        note($self, "CONNECT $host:$port");
    }
    else {
        note($self, 'connection');
    }
    my $target = IO::Socket::INET->new(PeerAddr => $host, PeerPort => $port, Proto => 'tcp',
        Timeout => 10) or return;
    syswrite $client, "HTTP/1.1 200 Connection established\r\n\r\n" if $self->{connect};
    my $both = IO::Select->new($client, $target);
    for (;;) {
        for my $from ($both->can_read) {
            sysread $from, my $piece, PIECE or return;
            my $to = $from == $client ? $target : $client;
            my $sent = 0;
            while ($sent < length $piece) {
                $sent += syswrite($to, $piece, length($piece) - $sent, $sent) // return;
            }
        }
    }
    return;
}

1;
