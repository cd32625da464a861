# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# The endpoint of "AutocertHostPolicy ask": a small HTTP server on loopback or on a unix socket.
#
#   my $endpoint = Autocert::Endpoint->new(yes => '^[a-z]+\.good\.test$');
#   ... "AutocertHostPolicy ask " . $endpoint->url
#   $endpoint->set(yes => '.', delay => 2);      while it runs
#   my @asked = $endpoint->asked;                [{domain, ip, path}, ...]
#
# Settings of new() and set():
#   yes       regular expression of the domains that get 200; others get 404
#   status    this status instead, whatever the domain
#   headers   {name => value} of each answer
#   delay     seconds before an answer
#   mode      'garbage': no HTTP; 'hang': no answer at all; 'close': the connection is closed
# new() only: socket => 1: a unix socket; name
package Autocert::Endpoint;

use strict;
use warnings;

use IO::Socket::INET ();
use IO::Socket::UNIX ();
use JSON::PP ();
use POSIX ();

use Autocert::Server ();
use Autocert::Util qw(free_ports slurp spit scratch nap on_exit reap_within wait_until);

use constant {
    START_SECONDS => 10,
};

my $count = 0;
my @all;

sub new
{
    my ($class, %arg) = @_;

    my $self = bless {}, $class;
    $count++;
    $self->{dir} = Autocert::Server::work_dir() . '/' . ($arg{name} // "endpoint$count");
    mkdir $self->{dir} or die "$self->{dir}: $!\n";
    chmod 0755, $self->{dir};
    if ($arg{socket}) {
        # Somewhere with a short name: the path of a socket has at most some hundred bytes.
        $self->{path} = scratch() . "/ask$$-$count";
    }
    else {
        $self->{port} = free_ports(1);
    }
    delete @arg{qw(socket name)};
    $self->set(%arg);
    $self->start;
    push @all, $self;
    return $self;
}

sub url
{
    my ($self, $path) = @_;
    $path //= '/may-have';
    return "unix:$self->{path}|http://localhost$path" if defined $self->{path};
    return "http://127.0.0.1:$self->{port}$path";
}

# Replaces all settings.
sub set
{
    my ($self, %setting) = @_;
    my $file = "$self->{dir}/settings";
    spit("$file.new", JSON::PP::encode_json(\%setting));
    rename "$file.new", $file or die "$file: $!\n";
    return;
}

sub asked
{
    my ($self) = @_;
    return map { JSON::PP::decode_json($_) } split /\n/, slurp("$self->{dir}/asked") // '';
}

# Domains that were asked about, canaries left out.
sub domains
{
    my ($self) = @_;
    return grep { !/\.invalid$/ } map { $_->{domain} } $self->asked;
}

sub start
{
    my ($self) = @_;

    my $listener = defined $self->{path}
        ? IO::Socket::UNIX->new(Local => $self->{path}, Listen => 50)
        : IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $self->{port}, Listen => 50,
            ReuseAddr => 1);
    die "endpoint: $!\n" unless $listener;
    chmod 0777, $self->{path} if defined $self->{path};
    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        local $SIG{CHLD} = 'IGNORE';
        local $SIG{TERM} = sub { POSIX::_exit(0) };
        while (1) {
            my $client = $listener->accept or next;
            my $child = fork;
            next if !defined $child || $child > 0;
            eval { $self->serve($client) };
            POSIX::_exit(0);
        }
    }
    close $listener;
    $self->{pid} = $pid;
    spit(scratch() . "/pids/$pid", "endpoint\n");
    return;
}

sub stop
{
    my ($self) = @_;
    my $pid = delete $self->{pid} // return;
    kill 'TERM', $pid;
    reap_within($pid, START_SECONDS);
    unlink scratch() . "/pids/$pid";
    unlink $self->{path} if defined $self->{path};
    return;
}

# One connection, in a process of its own; libcurl keeps it for more than one question.
sub serve
{
    my ($self, $client) = @_;

    while (1) {
        my $head = '';
        while ($head !~ /\r\n\r\n/) {
            sysread $client, my $part, 4096 or return;
            $head .= $part;
        }
        my ($target) = $head =~ m{^GET (\S+) HTTP/1\.1\r\n} or return;
        my ($path, $query) = split /\?/, $target, 2;
        my %member = map { split /=/, $_, 2 } split /&/, $query // '';
        open my $log, '>>', "$self->{dir}/asked" or die "asked: $!\n";
        syswrite $log, JSON::PP::encode_json({ path => $path, domain => $member{domain},
            ip => $member{ip}, query => $query, head => $head }) . "\n";
        close $log;
        $self->respond($client, $member{domain} // '') or return;
    }
}

sub respond
{
    my ($self, $client, $domain) = @_;

    my $setting = JSON::PP::decode_json(slurp("$self->{dir}/settings"));
    my $mode = $setting->{mode} // '';
    nap($setting->{delay}) if $setting->{delay};
    if ($mode eq 'hang') {
        # Until the client gives up, or is gone.
        sysread $client, my $part, 1;
        return;
    }
    if ($mode eq 'garbage') {
        syswrite $client, "\x00\xff no HTTP here\r\n\r\n";
        return;
    }
    return if $mode eq 'close';
    my $status = $setting->{status} // (defined $setting->{yes} && $domain =~ /$setting->{yes}/ ? 200 : 404);
    my %header = ('Content-Length' => 3, 'Content-Type' => 'text/plain', %{ $setting->{headers} // {} });
    syswrite $client, "HTTP/1.1 $status Words\r\n" . join('', map { "$_: $header{$_}\r\n" } sort keys %header)
        . "\r\nok\n";
    return 1;
}

on_exit(sub { $_->stop for @all });

1;
