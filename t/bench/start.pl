# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# seconds: 1800
#
# What many names cost: time from the start of httpd until it serves, and memory of
# parent and child then and after every name was visited once. The cache is full of
# valid certificates. Beside it mod_ssl alone with the same pairs as files, where
# each needs a virtual host. Nothing here has a goal but to be served.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Time::HiRes ();

use Autocert::Bench qw(quick table memory fill_cache host);
use Autocert::Client qw(handshake);
use Autocert::Server;
use Autocert::Util qw(wait_until free_ports slurp spit);

use constant {
    READY_SECONDS => 120,
    CHILD_SECONDS => 30,
};

my $dead = free_ports(1);
my @runs = quick()
    ? ({ names => 1, vhosts => 1 }, { names => 100, vhosts => 10 },
        { names => 10, vhosts => 10, static => 1 })
    : ({ names => 1, vhosts => 1 }, { names => 1000, vhosts => 100 },
        { names => 1000, vhosts => 1000 }, { names => 10_000, vhosts => 100 },
        { names => 1, vhosts => 1, static => 1 }, { names => 1000, vhosts => 1000, static => 1 });

# Contiguous names, so many for each vhost.
sub vhosts
{
    my ($run, $body) = @_;
    my $each = $run->{names} / $run->{vhosts};
    return join '', map {
        my $first = $_ * $each;
        "<VirtualHost 127.0.0.1:\@https\@>\n"
            . $body->(map { host($_) } $first .. $first + $each - 1) . "</VirtualHost>\n";
    } 0 .. $run->{vhosts} - 1;
}

# Names in lines of a bearable length.
sub domain_lines
{
    my (@names) = @_;
    my $text = '';
    $text .= '    AutocertDomain ' . join(' ', splice @names, 0, 10) . "\n" while @names;
    return $text;
}

sub managed_config
{
    my ($run) = @_;
    return <<'CONF' . vhosts($run, \&domain_lines);
AutocertCA https://localhost:@dead@/dir
AutocertAcceptTOS on
AutocertCache dir:@cache@
CONF
}

sub static_config
{
    my ($run) = @_;
    return vhosts($run, sub { <<"VHOST" });
    ServerName $_[0]
    SSLEngine on
    SSLCertificateFile \@cache\@/$_[0].pem
    SSLCertificateKeyFile \@cache\@/$_[0].key
VHOST
}

# The same content as two files, which is what mod_ssl takes.
sub split_pairs
{
    my ($run, $server) = @_;
    for my $name (map { host($_) } 0 .. $run->{names} - 1) {
        my $file = $server->cache_file($name);
        my ($key, $chain) = slurp($file) =~ /\A(.*?)(-----BEGIN CERTIFICATE.*)\z/s;
        spit("$file.key", $key, 0600);
        spit("$file.pem", $chain);
    }
    return;
}

sub megabytes { return sprintf '%.1f', $_[0] }

sub measure
{
    my ($run) = @_;

    my $title = "$run->{names} names in $run->{vhosts} vhosts, "
        . ($run->{static} ? 'mod_ssl' : 'this module');
    my $server = Autocert::Server->new(
        name => ($run->{static} ? 'static' : 'managed') . "$run->{names}-$run->{vhosts}",
        module => $run->{static} ? 0 : 1, loglevel => 'warn', vars => { dead => $dead },
        start_servers => 1, server_limit => 1, threads => 8,
        config => $run->{static} ? static_config($run) : managed_config($run));
    my $cafile = $server->root . '/ca.pem';
    fill_cache($server->cache, $cafile, $run->{names}, $server->user);
    split_pairs($run, $server) if $run->{static};

    my $begin = Time::HiRes::time();
    $server->launch;
    # The last name: nothing is ready before it is.
    my %visit = (port => $server->https, ca => $cafile);
    my $last = host($run->{names} - 1);
    my $up = wait_until(READY_SECONDS, sub { handshake(%visit, sni => $last)->{ok} }, $title);
    my $seconds = Time::HiRes::time() - $begin;
    ok $up, "$title: is served" or return;
    my ($child) = wait_until(CHILD_SECONDS, sub { ($server->children)[0] });
    my ($parent, $before) = map { memory($_) } $server->pid, $child;

    my @failed = grep { !handshake(%visit, sni => $_)->{ok} }
        map { host($_) } 0 .. $run->{names} - 1;
    is scalar @failed, 0, "$title: every name" or diag $failed[0];
    my $after = memory($child);
    $server->stop;
    return [$run->{names}, $run->{vhosts}, $run->{static} ? 'mod_ssl' : 'this module',
        sprintf('%.2f', $seconds), megabytes($parent->{rss}), megabytes($before->{rss}),
        megabytes($before->{private}), megabytes($after->{rss}), megabytes($after->{private})];
}

my @rows = map { measure($_) } @runs;
table('From the start of httpd to the first verified handshake; memory in MB, event MPM, one child',
    ['names', 'vhosts', 'server', 'start s', 'parent RSS', 'child RSS', 'private',
        'RSS, all visited', 'private, all visited'], @rows);

done_testing;
