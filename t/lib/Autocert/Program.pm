# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# A program beside the server under test that listens on ports and writes a log: a CA, its DNS. A class
# of these has command() (a list in an array), ports(), and may have environment().
package Autocert::Program;

use strict;
use warnings;

use File::Path ();
use Test::Builder ();

use Autocert::Client ();
use Autocert::Server ();
use Autocert::Util qw(wait_until slurp spit spawn reap_within can_connect on_exit fail_file);

use constant {
    START_SECONDS => 20,
    STOP_SECONDS  => 5,
    TAIL_LINES    => 40,
};

my @all;

# The argument name is that of its directory, and what messages call it.
sub new
{
    my ($class, %arg) = @_;

    my $self = bless {%arg}, $class;
    die "two programs are called $self->{name}\n" if grep { $_->{name} eq $self->{name} } @all;
    $self->{dir} = Autocert::Server::work_dir() . "/$self->{name}";
    File::Path::remove_tree($self->{dir});
    File::Path::make_path($self->{dir});
    push @all, $self;
    return $self;
}

sub dir         { return $_[0]{dir} }
sub pid         { return $_[0]{pid} }
sub log_file    { return "$_[0]{dir}/log" }
sub cafile      { return "$_[0]{dir}/tls-ca.pem" }
sub environment { return {} }

# What it needs to speak TLS as localhost: tls.pem and tls.key in its directory, issued by cafile().
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

# Start it and wait until it listens; dies if it does not.
sub start
{
    my ($self) = @_;

    die "$self->{name} runs already\n" if $self->{pid};
    $self->{pid} = spawn($self->command, output => $self->log_file, dir => $self->{dir},
        env => $self->environment);
    my $up = wait_until(START_SECONDS, sub {
        return 'dead' if defined reap_within($self->{pid}, 0);
        return (grep { !can_connect($_) } $self->ports) ? 0 : 'up';
    }) // 'late';
    delete $self->{pid} if $up eq 'dead';
    die "$self->{name} is $up: " . $self->log if $up ne 'up';
    return $self;
}

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

on_exit(sub {
    my ($status) = @_;
    my $tb = Test::Builder->new;
    for my $self (@all) {
        if ($self->{pid} && defined reap_within($self->{pid}, 0)) {
            fail_file("$self->{name} died: see " . $self->log_file);
            delete $self->{pid};
        }
        $self->stop;
        next if !$status && $tb->is_passing;
        my @lines = split /\n/, $self->log;
        splice @lines, 0, @lines - TAIL_LINES if @lines > TAIL_LINES;
        $tb->diag("--- log of $self->{name}, last lines:") if @lines;
        $tb->diag($_) for @lines;
    }
});

1;
