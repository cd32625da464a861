# Licensed under the Apache License, Version 2.0; see LICENSE.
# mpm: all
#
# AutocertListener: three lines (and the address of the test CA) are a whole HTTPS
# server, with HTTP/2 where the MPM has threads, with and without a Listen line, and
# with TCP keep-alive of three minutes on what it accepts.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);
use IO::Socket::INET ();

use Autocert::Client qw(curl https_get);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until run_program);

use constant {
    OBTAIN_SECONDS    => 60,
    SERVE_SECONDS     => 30,
    KEEPALIVE_SECONDS => 180,
};

my $name = 'example.test';
my $pebble = Autocert::Pebble->new;
$pebble->start;

my $ca_lines = "AutocertCA \@pebble\@ cafile=\@cafile\@\nAutocertCache dir:\@cache\@\n";
my $minimal = "Listen \@https\@\nAutocertAcceptTOS on\nAutocertListener \@https\@ $name www.$name\n";
my $mpm = Autocert::Server::mpm_of_run();
# mod_http2 is there under prefork too, where it cannot be used.
my $server = Autocert::Server->new(http => $pebble->http, https => $pebble->https, listen => 0,
    vars => $pebble->vars, modules => $mpm eq 'prefork' ? ['http2'] : [], config => $ca_lines . $minimal);
ok $server->start, 'the minimal configuration starts' or exit 1;
my $root = $pebble->root;
my $port = $server->https;

for my $host ($name, "www.$name") {
    my $seen = wait_until(OBTAIN_SECONDS, sub {
        my $try = https_get(port => $port, sni => $host, ca => $root);
        return $try->{ok} ? $try : undef;
    }, "a certificate for $host") // {};
    is_deeply $seen->{names}, [$host], "GC-01: $host has a certificate";
    is $seen->{body}, "hello from server1\n", 'and the content of the main server';
}

my $best = $mpm eq 'prefork' ? '1.1' : '2';

# What curl speaks with it: the version of HTTP and the status.
sub spoken
{
    my ($host, @more) = @_;
    my (undef, $said) = curl('--cacert', $root, '--http2', '-o', '/dev/null', '-w',
        '%{http_version} %{http_code}', @more, "https://$host:$port/");
    return $said;
}

# Another configuration with the same cache: certificates are there at once.
sub serves_with
{
    my ($title, $lines, $version) = @_;
    $server->stop;
    $server->write_config($ca_lines . $lines);
    ok $server->start, "$title: starts" or return;
    my $said = wait_until(SERVE_SECONDS, sub {
        my $text = spoken($name);
        return $text =~ /^[\d.]+ 200$/ ? $text : undef;
    }, $title);
    is $said, "$version 200", "$title: HTTP/$version";
    return;
}

is spoken($name), "$best 200", "HTTP/$best under $mpm";

# Seconds until the first probe of the accepted end of a new connection.
sub keepalive_of
{
    my ($to) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $to, Proto => 'tcp',
        Timeout => SERVE_SECONDS) or return "connect to port $to: $@";
    my $client = $socket->sockport;
    # Without a byte the kernel would not hand it to httpd.
    print {$socket} "\x16";
    $socket->flush;
    my $text = '';
    my $timer = wait_until(SERVE_SECONDS, sub {
        (undef, $text) = run_program(['ss', '-tnoH', "sport = :$to and dport = :$client"]);
        return $text =~ /timer:\(keepalive,([^,)]+),/ ? $1 : undef;
    }, 'a keep-alive timer');
    close $socket;
    return "no timer: $text" unless defined $timer;
    my %unit = (min => 60, sec => 1, hours => 3600);
    my $seconds = 0;
    $seconds += $1 * ($unit{$2} // 0) while $timer =~ /([\d.]+)(min|sec|hours)/g;
    return $seconds;
}

sub check_keepalive
{
    my ($title) = @_;
    my $seconds = keepalive_of($port);
    like $seconds, qr/^[\d.]+$/, "$title: TCP keep-alive is on" or return;
    cmp_ok $seconds, '>', 0, 'its first probe is still to come';
    cmp_ok $seconds, '<=', KEEPALIVE_SECONDS, 'after three minutes at most';
    return;
}

check_keepalive('with a Listen line');
ok $server->graceful, 'a graceful restart';
check_keepalive('after a graceful restart');
is spoken($name), "$best 200", 'which changes nothing';

serves_with('without a Listen line', "AutocertAcceptTOS on\nAutocertListener $port $name\n", $best);
check_keepalive('without a Listen line');
serves_with('with an address and another Listen line', 'Listen 127.0.0.1:' . $server->http
        . "\nAutocertAcceptTOS on\nAutocertListener 127.0.0.1:$port $name\n", $best);
check_keepalive('with an address');
cmp_ok keepalive_of($server->http), '>', KEEPALIVE_SECONDS, 'other listeners keep what the system says';
serves_with('two AutocertListener lines',
    "AutocertAcceptTOS on\nAutocertListener 127.0.0.1:$port $name\nAutocertListener 127.0.0.1:"
    . $server->http . " www.$name\n", $best);
check_keepalive('the first of two');
cmp_ok keepalive_of($server->http), '<=', KEEPALIVE_SECONDS, 'and the second too';
serves_with('Protocols of the administrator', "Protocols http/1.1\nAutocertAcceptTOS on\n"
    . "AutocertListener $port $name\n", '1.1');

# Its ServerName is the first name, whatever the main server is called.
my $canonical = "AutocertAcceptTOS on\nUseCanonicalName on\nRedirect /moved /there\n"
    . "AutocertListener 127.0.0.1:$port $name www.$name\n";
serves_with('a second name', $canonical, $best);
my $moved = https_get(port => $port, sni => "www.$name", ca => $root, path => '/moved');
is $moved->{headers}{location}, "https://$name/there", 'leads to the first one where names matter'
    or diag $moved->{error};

# A machine without IPv6 can still read the line.
my $has_ipv6 = do {
    require IO::Socket::IP;
    IO::Socket::IP->new(Listen => 1, LocalHost => '::1', LocalPort => 0) ? 1 : 0;
};
$server->stop;
$server->write_config("${ca_lines}AutocertAcceptTOS on\nAutocertListener [::1]:$port $name\n");
my ($status, $output) = $server->configtest(arguments => ['-D', 'DUMP_VHOSTS']);
is $status, 0, 'an IPv6 address: passes';
like $output, qr/^\[::1\]:$port +\Q$name\E /m, 'an IPv6 address: the vhost is there';
if ($has_ipv6) {
    ok $server->start, 'an IPv6 address: starts';
    my $said = wait_until(SERVE_SECONDS, sub {
        my (undef, $text) = run_program(['curl', '-sS', '--noproxy', '*', '--max-time', '30', '--cacert',
                $root, '--connect-to', '::[::1]:', '--http2', '-o', '/dev/null', '-w',
                '%{http_version} %{http_code}', "https://$name:$port/"]);
        return $text =~ / 200$/ ? $text : undef;
    }, 'an answer on ::1');
    is $said, "$best 200", "an IPv6 address: HTTP/$best";
}
is $pebble->orders, 2, 'all with the two certificates of the beginning';

done_testing;
