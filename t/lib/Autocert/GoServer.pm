# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# A server with Go's autocert (t/go/autocert-server.go, made by "make go-server").
#
#   my $go = Autocert::GoServer->new(pebble => $pebble, hosts => ['a.example.test'])->start;
#
# Arguments of new():
#   pebble    the CA; its "https" is the port that the server listens on
#   hosts     names that may have a certificate; none: every name
#   http      true: http-01 too, on the CA's "http" port
#   cache     directory; default: one of its own, empty
#   name      of its directory, in messages
package Autocert::GoServer;

use strict;
use warnings;

use File::Path ();

use Autocert::Server ();
use Autocert::Util qw(wait_until slurp build_dir spawn reap_within can_connect on_exit fail_file);

use constant {
    START_SECONDS => 20,
    STOP_SECONDS  => 5,
    TAIL_LINES    => 40,
};

my $count = 0;

sub new
{
    my ($class, %arg) = @_;

    my $self = bless {%arg}, $class;
    $self->{name} //= 'go' . ++$count;
    $self->{dir} = Autocert::Server::work_dir() . "/$self->{name}";
    File::Path::remove_tree($self->{dir});
    File::Path::make_path($self->{dir});
    $self->{cache} //= "$self->{dir}/cache";
    return $self;
}

sub program
{
    my $path = build_dir() . '/go/autocert-server';
    die "$path is missing: make go-server\n" unless -x $path;
    return $path;
}

sub https    { return $_[0]{pebble}->https }
sub pid      { return $_[0]{pid} }
sub cache    { return $_[0]{cache} }
sub log_file { return "$_[0]{dir}/log" }
sub log      { return slurp($_[0]->log_file) // '' }

sub cache_file
{
    my ($self, $key) = @_;
    return "$self->{cache}/$key";
}

sub start
{
    my ($self) = @_;

    die "$self->{name} runs already\n" if $self->{pid};
    my $pebble = $self->{pebble};
    my @command = (program(), '-listen', '127.0.0.1:' . $pebble->https, '-cache', $self->{cache},
        '-directory', $pebble->url, '-cafile', $pebble->cafile,
        $self->{hosts} ? ('-hosts', join ',', @{ $self->{hosts} }) : '-any');
    push @command, '-http', '127.0.0.1:' . $pebble->http if $self->{http};
    $self->{pid} = spawn(\@command, output => $self->log_file, dir => $self->{dir});
    if (!$self->{at_exit}++) {
        on_exit(sub { $self->end($_[0]) });
    }
    my @ports = ($pebble->https, $self->{http} ? $pebble->http : ());
    my $up = wait_until(START_SECONDS, sub {
        return 'dead' unless $self->running;
        return (grep { !can_connect($_) } @ports) ? 0 : 'up';
    }) // 'late';
    die "$self->{name} is $up: " . $self->log if $up ne 'up';
    return $self;
}

sub running
{
    my ($self) = @_;
    return 0 unless $self->{pid};
    return 1 unless defined reap_within($self->{pid}, 0);
    delete $self->{pid};
    return 0;
}

sub stop
{
    my ($self) = @_;
    my $pid = delete $self->{pid} // return;
    kill 'TERM', $pid;
    return if defined reap_within($pid, STOP_SECONDS);
    kill 'KILL', $pid;
    reap_within($pid, STOP_SECONDS);
    return;
}

sub end
{
    my ($self, $status) = @_;

    fail_file("$self->{name} died: see " . $self->log_file) if $self->{pid} && !$self->running;
    $self->stop;
    my $tb = Test::Builder->new;
    return if !$status && $tb->is_passing;
    my @lines = split /\n/, $self->log;
    splice @lines, 0, @lines - TAIL_LINES if @lines > TAIL_LINES;
    $tb->diag("--- log of $self->{name}, last lines:");
    $tb->diag($_) for @lines;
    return;
}

1;
