# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# One httpd under test.
#
#   my $server = Autocert::Server->new(config => <<'CONF');
#   AutocertCache dir:@cache@
#   <VirtualHost 127.0.0.1:@https@>
#       AutocertDomain a.example.test
#   </VirtualHost>
#   CONF
#   $server->start;
#
# In the text @http@ and @https@ are the ports, @root@, @htdocs@, @cache@ (which
# does not exist yet) and @logs@ directories; vars => {name => value} adds more.
#
# Arguments of new(), all optional (with_ca() has more):
#   config    text, or a function that is given the server and returns it
#   mpm       event, worker, prefork; else what t/run chose
#   vars      more @name@ words
#   http, https   ports; else free ones. 0: no such port
#   listen    false: no Listen lines, the configuration has its own
#   module    false: without mod_autocert; else "AutocertWait 0" stands before the text
#   steps     true: with the module of the build variant "steps" (make module-steps), which
#             stops at the step of an order that env => {AUTOCERT_STEP => 'NUMBER:FILE'} names
#   modules   more modules to load, by short name: ['md']
#   test_modules   the same, of t/modules: ['peer'] is mod_test_peer
#   load      text instead of all LoadModule lines but the MPM's
#   loglevel  default: info and debug for the module
#   env       environment of httpd
#   user      what children run as; else www-data or nobody for root
#   name      of its directory, in messages
#   start_servers, threads, max_workers, server_limit   numbers of the MPM
package Autocert::Server;

use strict;
use warnings;

use Apache::Test ();
use File::Path ();
use IO::Socket::INET ();
use POSIX ();
use Test::Builder ();

use Autocert::Util qw(wait_until free_ports slurp spit scratch run_program spawn reap_within
    process_lives can_connect on_exit fail_file);

use constant {
    START_SECONDS => 30,
    STOP_SECONDS  => 15,
    IDLE_SECONDS  => 1,
    TAIL_LINES    => 60,    # of the error log, shown when a test fails
};

# Shared or built in, as the platform likes; a missing file is a built-in one.
my @MODULES = qw(unixd log_config logio watchdog authz_core authz_host socache_shmcb ssl headers
    alias setenvif env mime dir rewrite status);
my %MPM = map { $_ => 1 } qw(event worker prefork);

# A child that died of a signal, or that had to be killed because it did not leave.
my $CRASH = qr/exit signal|AH00046:|AH00050:|AH00051:|AH00052:/;
my $SANITIZER = qr/ERROR: (?:Address|Leak|Thread)Sanitizer|runtime error: /;

my @servers;
my $count = 0;

sub mpm_of_run
{
    return $ENV{AUTOCERT_MPM} // 'event';
}

# Of the file that runs: its directory below the scratch directory.
sub work_dir
{
    my ($file) = $0 =~ m{([^/]+?)(?:\.t)?$};
    my $dir = scratch() . '/work/' . $file . '-' . mpm_of_run();
    File::Path::make_path($dir);
    return $dir;
}

sub vars
{
    return Apache::Test::basic_config()->{vars};
}

sub modules_dir
{
    our $dir;
    if (!defined $dir) {
        my $apxs = vars()->{apxs} // 'apxs';
        my ($status, $text) = run_program([$apxs, '-q', 'LIBEXECDIR']);
        die "$apxs -q LIBEXECDIR: $text" if $status;
        ($dir) = $text =~ m{^(/\S+)}m;
        die "apxs has no LIBEXECDIR\n" unless defined $dir;
    }
    return $dir;
}

sub new
{
    my ($class, %arg) = @_;

    my $self = bless {%arg}, $class;
    $count++;
    $self->{name} //= "server$count";
    $self->{mpm} //= mpm_of_run();
    die "no such MPM: $self->{mpm}\n" unless $MPM{ $self->{mpm} };
    $self->{module} //= 1;
    $self->{http} //= free_ports(1);
    $self->{https} //= free_ports(1);
    $self->{user} //= $> == 0 ? vars()->{user} : getpwuid $>;
    $self->{group} //= $> == 0 ? getgrgid((getpwnam $self->{user})[3]) : getgrgid $) + 0;
    $self->{root} = work_dir() . "/$self->{name}";
    die "two servers are called $self->{name}\n" if grep { $_->{name} eq $self->{name} } @servers;
    File::Path::remove_tree($self->{root});
    File::Path::make_path(map { "$self->{root}/$_" } qw(logs htdocs run conf state));
    spit("$self->{root}/htdocs/index.html", "hello from $self->{name}\n");
    spit("$self->{root}/conf/mime.types", "text/html html\ntext/plain txt\n");
    $self->{crashes_expected} = 0;
    $self->write_config;
    push @servers, $self;
    return $self;
}

# One that obtains from a CA under test: the lines that name it stand before the configuration, and the CA
# finds its answers there. More arguments: ca_keys (text behind AutocertCA), wait (AutocertWait; default 30s).
sub with_ca
{
    my ($class, $pebble, %arg) = @_;

    my $keys = delete $arg{ca_keys} // '';
    my $wait = delete $arg{wait} // '30s';
    my $lines = "AutocertCA \@pebble\@ cafile=\@cafile\@ $keys\nAutocertAcceptTOS on\n"
        . "AutocertCache dir:\@cache\@\nAutocertWait $wait\n";
    return $class->new(http => $pebble->http, https => $pebble->https, %arg,
        vars => { %{ $pebble->vars }, %{ $arg{vars} // {} } }, config => $lines . $arg{config});
}

sub root       { return $_[0]{root} }
sub http       { return $_[0]{http} }
sub https      { return $_[0]{https} }
sub mpm        { return $_[0]{mpm} }
sub user       { return $_[0]{user} }
sub pid        { return $_[0]{pid} }
sub htdocs     { return "$_[0]{root}/htdocs" }
sub cache      { return $_[0]{cache} // "$_[0]{root}/state/autocert" }
sub conf_file  { return "$_[0]{root}/conf/httpd.conf" }
sub error_log  { return "$_[0]{root}/logs/error_log" }
sub access_log { return slurp("$_[0]{root}/logs/access_log") // '' }

sub cache_file
{
    my ($self, $key) = @_;
    return $self->cache . "/$key";
}

# Put a file into the cache by hand, whole or not at all, as another program that
# runs as the server's user would.
sub cache_put
{
    my ($self, $key, $text) = @_;

    my ($uid, $gid) = $> == 0 ? (getpwnam $self->{user})[2, 3] : (-1, -1);
    if (!-d $self->cache) {
        File::Path::make_path($self->cache);
        chmod 0700, $self->cache or die "$self->{name}: chmod: $!\n";
        chown $uid, $gid, $self->cache or die "$self->{name}: chown: $!\n";
    }
    my $file = spit("$self->{root}/run/put.$$", $text, 0600);
    chown $uid, $gid, $file or die "$file: chown: $!\n";
    rename $file, $self->cache_file($key) or die "$file: rename: $!\n";
    return $self->cache_file($key);
}

# A crash, or a child that must be killed, is what this test wants to see.
sub expect_crashes
{
    $_[0]{crashes_expected} = 1;
    return;
}

# Write httpd.conf, with a new text for the part of the test if one is given.
sub write_config
{
    my ($self, $config) = @_;

    $self->{config} = $config if defined $config;
    my $text = $self->{config} // '';
    $text = $text->($self) if ref $text;
    my %word = (
        http => $self->{http}, https => $self->{https}, root => $self->{root},
        htdocs => $self->htdocs, cache => $self->cache, logs => "$self->{root}/logs",
        user => $self->{user}, %{ $self->{vars} // {} },
    );
    $text =~ s/\@([a-z][a-z0-9_]*)\@/$word{$1} \/\/ die "no value for \@$1\@\n"/ge;
    spit($self->conf_file, $self->preamble . $text);
    return $self;
}

sub load_lines
{
    my ($self) = @_;

    my $dir = modules_dir();
    my $text = '';
    my $load = sub {
        my ($name) = @_;
        $text .= "LoadModule ${name}_module $dir/mod_$name.so\n" if -e "$dir/mod_$name.so";
    };
    $load->("mpm_$self->{mpm}");
    return $text . $self->{load} if defined $self->{load};
    $load->($_) for @MODULES;
    $load->('http2') if $self->{mpm} ne 'prefork';
    for my $name (@{ $self->{modules} // [] }) {
        die "no mod_$name.so in $dir\n" unless -e "$dir/mod_$name.so";
        $load->($name);
    }
    for my $name (@{ $self->{test_modules} // [] }) {
        my $file = scratch() . "/module/mod_test_$name.so";
        die "$file is missing: run make test-modules\n" unless -e $file;
        $text .= "LoadModule test_${name}_module $file\n";
    }
    if ($self->{module}) {
        my $module = $ENV{AUTOCERT_MODULE} // die "AUTOCERT_MODULE is not set: use t/run\n";
        $module = scratch() . '/module/steps/mod_autocert.so' if $self->{steps};
        die "$module: no such module\n" unless -e $module;
        $text .= "LoadModule autocert_module $module\n";
    }
    return $text;
}

sub mpm_lines
{
    my ($self) = @_;

    my $start = $self->{start_servers};
    if ($self->{mpm} eq 'prefork') {
        $start //= 4;
        my $max = $self->{max_workers} // 32;
        return "StartServers $start\nMinSpareServers 2\nMaxSpareServers $max\n"
            . "ServerLimit $max\nMaxRequestWorkers $max\n";
    }
    $start //= 2;
    my $threads = $self->{threads} // 10;
    my $limit = $self->{server_limit} // 4;
    my $max = $self->{max_workers} // $threads * $limit;
    return "StartServers $start\nServerLimit $limit\nThreadLimit $threads\n"
        . "ThreadsPerChild $threads\nMaxRequestWorkers $max\n"
        . "MinSpareThreads $threads\nMaxSpareThreads $max\n";
}

sub preamble
{
    my ($self) = @_;

    my $root = $self->{root};
    my $level = $self->{loglevel} // 'info' . ($self->{module} ? ' autocert:debug' : '');
    my $listen = '';
    if ($self->{listen} // 1) {
        $listen .= "Listen 127.0.0.1:$_\n" for grep { $_ } $self->{http}, $self->{https};
    }
    # A handshake without a certificate is answered at once, unless the test is about waiting.
    my $wait = $self->{module} ? "AutocertWait 0\n" : '';
    my $user = $> == 0 ? "User $self->{user}\nGroup $self->{group}\n" : '';
    return $self->load_lines . $self->mpm_lines . $user . $wait . <<"CONF" . $listen;
ServerRoot $root
DefaultRuntimeDir $root/run
PidFile $root/run/httpd.pid
ServerName localhost
Timeout 30
KeepAliveTimeout 5
LogLevel $level
ErrorLog $root/logs/error_log
LogFormat "pid=%P host=%{Host}i sni=%{SSL_TLS_SNI}x \\"%r\\" %>s %{SSL_PROTOCOL}x %{SSL_SESSION_RESUMED}x" t
CustomLog $root/logs/access_log t
DocumentRoot $root/htdocs
<Directory />
    Require all denied
    AllowOverride None
</Directory>
<Directory $root/htdocs>
    Require all granted
</Directory>
<IfModule mime_module>
    TypesConfig $root/conf/mime.types
</IfModule>
<IfModule ssl_module>
    SSLSessionCache shmcb:$root/run/ssl_scache(512000)
    SSLRandomSeed startup builtin
    SSLRandomSeed connect builtin
</IfModule>
CONF
}

sub command
{
    my ($self, @more) = @_;
    return [vars()->{httpd}, '-d', $self->{root}, '-f', $self->conf_file, @more];
}

# Environment of httpd. With sanitizers their library must come before every
# other; reports go to files, because a child's stderr is the error log of a
# server that may be long gone.
sub environment
{
    my ($self) = @_;

    my %env = (%{ $self->{env} // {} });
    if (defined $ENV{AUTOCERT_ASAN} && !$self->{steps}) {
        my $log = scratch() . '/sanitizers/' . $self->report_stem;
        $env{LD_PRELOAD} = $ENV{AUTOCERT_ASAN};
        $env{ASAN_OPTIONS} = "detect_leaks=0:detect_odr_violation=0:log_path=$log";
        $env{UBSAN_OPTIONS} = "print_stacktrace=1:log_path=$log";
    }
    return \%env;
}

# One server's reports: <stem>.<pid>.
sub report_stem
{
    my ($self) = @_;
    (my $stem = $self->{root}) =~ s{^.*/work/}{};
    $stem =~ s{/}{-}g;
    return $stem;
}

# Start and wait until it serves. False, with a diagnosis, if it does not.
sub start
{
    my ($self) = @_;

    my $mark = $self->mark;
    $self->launch;
    my $up = wait_until(START_SECONDS, sub {
        return 'dead' unless $self->running;
        return 0 unless $self->log_since($mark) =~ /resuming normal operations/;
        return 0 if grep { $_ && !can_connect($_) } $self->ports;
        return 'up';
    }, "$self->{name} to start") // '';
    return 1 if $up eq 'up';
    my $tb = Test::Builder->new;
    $tb->diag("$self->{name} did not start: " . (slurp("$self->{root}/logs/startup") // ''));
    $self->{failed} = 1;
    $self->stop if $self->{pid};
    return 0;
}

sub ports
{
    my ($self) = @_;
    return grep { $_ } $self->{http}, $self->{https} if $self->{listen} // 1;
    return ();
}

# Start it without waiting; for a configuration that must not come up, see start_status().
sub launch
{
    my ($self) = @_;
    die "$self->{name} runs already\n" if $self->{pid};
    $self->{pid} = spawn($self->command('-DFOREGROUND'), env => $self->environment,
        output => "$self->{root}/logs/startup", dir => '/');
    return $self;
}

# Start a server that is expected to refuse: (exit status, its output). A server
# that comes up is stopped again, with status undef.
sub start_status
{
    my ($self) = @_;

    my $mark = $self->mark;
    unlink "$self->{root}/logs/startup";
    $self->launch;
    my $status = reap_within($self->{pid}, 10);
    if (defined $status) {
        delete $self->{pid};
        $status = $status & 127 ? 128 + ($status & 127) : $status >> 8;
    }
    else {
        $self->stop;
    }
    return ($status, (slurp("$self->{root}/logs/startup") // '') . $self->log_since($mark));
}

# False when it has ended (and it is reaped then).
sub running
{
    my ($self) = @_;
    return 0 unless $self->{pid};
    return 1 unless defined reap_within($self->{pid}, 0);
    delete $self->{pid};
    return 0;
}

# Ports that it listens on, by its configuration.
sub listening
{
    my ($self) = @_;
    my $text = slurp($self->conf_file) // '';
    return map { /(\d+)(?:\s+https?)?\s*$/ ? $1 : () } $text =~ /^\s*Listen\s+(.*)$/mg,
        $text =~ /^\s*AutocertListener\s+(\S*\d)\s/mg;
}

# Has somebody a socket on one of these ports in one of these states of /proc/net/tcp?
sub has_socket
{
    my ($self, @states) = @_;
    my %port = map { sprintf('%04X', $_) => 1 } $self->listening;
    my %state = map { $_ => 1 } @states;
    for my $file ('/proc/net/tcp', '/proc/net/tcp6') {
        for my $line (split /\n/, slurp($file) // '') {
            my ($local, $is) = $line =~ /^\s*\d+: [0-9A-F]+:([0-9A-F]{4}) \S+ ([0-9A-F]{2}) / or next;
            return 1 if $port{$local} && $state{$is};
        }
    }
    return 0;
}

# Are connections to it open (established, or closed by the client only)?
sub is_busy { return $_[0]->has_socket('01', '08') }

# SIGTERM, and SIGKILL for the whole session after a bound, which is a failure. The event MPM looks at
# sockets of connections that a worker is closing just then, and may crash: so those that clients have
# closed are waited for, and those that a test holds open are not.
sub stop
{
    my ($self, $signal) = @_;

    return 1 unless $self->running;
    my $pid = $self->{pid};
    wait_until(IDLE_SECONDS, sub { !$self->is_busy });
    kill $signal // 'TERM', $pid;
    my $status = reap_within($pid, STOP_SECONDS);
    if (!defined $status) {
        fail_file("$self->{name} did not stop within " . STOP_SECONDS . " s")
            unless $self->{crashes_expected};
        $self->kill_all;
        return 0;
    }
    delete $self->{pid};
    return 1;
}

# SIGKILL for httpd and all its children at once, as a crash of the machine would.
sub kill_all
{
    my ($self) = @_;
    my $pid = $self->{pid} // return;
    my @children = $self->children;
    # It leads a process group, as spawn() made it do.
    kill 'KILL', -$pid, $pid, @children;
    reap_within($pid, 10);
    wait_until(10, sub { !grep { process_lives($_) } @children }, 'children of httpd to die');
    # A process counts as dead before its last thread has let go of the sockets.
    wait_until(10, sub { !$self->has_socket('0A') }, 'its ports to be free');
    delete $self->{pid};
    return;
}

sub restart
{
    my ($self) = @_;
    $self->stop;
    return $self->start;
}

# Ask for a graceful restart and wait until the new generation is there.
sub graceful
{
    my ($self, $signal) = @_;
    die "$self->{name} does not run\n" unless $self->running;
    my $mark = $self->mark;
    kill $signal // 'USR1', $self->{pid};
    return wait_until(START_SECONDS, sub {
        return $self->log_since($mark) =~ /resuming normal operations/ && $self->running;
    }, "$self->{name} to restart gracefully");
}

# httpd -t: (status, output). as => 'nobody' runs it without privilege, if there
# is any to give up.
sub configtest
{
    my ($self, %opt) = @_;

    my @as;
    if (defined $opt{as} && $> == 0) {
        my ($uid, $gid) = (getpwnam $opt{as})[2, 3];
        die "no user $opt{as}\n" unless defined $uid;
        @as = ('setpriv', "--reuid=$uid", "--regid=$gid", '--clear-groups');
    }
    my @command = (@as, @{ $self->command('-t', @{ $opt{arguments} // [] }) });
    if (@as) {
        my ($path) = grep { -x } map { "$_/setpriv" } split /:/, $ENV{PATH};
        die "setpriv is missing (package util-linux)\n" unless defined $path;
        $command[0] = $path;
    }
    return run_program(\@command, env => $self->environment);
}

# Process ids of httpd's children.
sub children
{
    my ($self) = @_;
    my $parent = $self->{pid} // return;
    my @found;
    for my $file (glob '/proc/[0-9]*/stat') {
        my $stat = slurp($file) // next;
        my ($pid, $state, $ppid) = $stat =~ /^(\d+) \(.*\) (\S) (\d+)/s or next;
        push @found, $pid if $ppid == $parent && $state ne 'Z';
    }
    @found = sort { $a <=> $b } @found;
    return @found;
}

# Where the error log ends now; log_since() returns what came after a mark.
sub mark
{
    return -s $_[0]->error_log // 0;
}

sub log_since
{
    my ($self, $mark) = @_;
    return slurp($self->error_log, $mark // 0) // '';
}

# The text that the pattern matched (its first group if it has one) as soon as it
# is in the log behind the mark.
sub wait_for_log
{
    my ($self, $pattern, $seconds, $mark) = @_;
    return wait_until($seconds // 10, sub {
        return $self->log_since($mark) =~ $pattern ? $1 // $& : undef;
    }, "$pattern in the error log of $self->{name}");
}

# --- The end of a test file ---

sub check_end
{
    my ($self) = @_;

    my $log = $self->log_since(0) . (slurp("$self->{root}/logs/startup") // '');
    if (!$self->{crashes_expected}) {
        my @lines = grep { /$CRASH/ } split /\n/, $log;
        fail_file("$self->{name}: $_") for splice @lines, 0, 5;
    }
    my @lines = grep { /$SANITIZER/ } split /\n/, $log;
    fail_file("$self->{name}: $_") for splice @lines, 0, 5;
    my $stem = scratch() . '/sanitizers/' . $self->report_stem;
    for my $report (glob "$stem.*") {
        fail_file("$report: " . substr slurp($report), 0, 8000);
    }
    return;
}

sub show_tail
{
    my ($self) = @_;
    my @lines = split /\n/, $self->log_since(0);
    splice @lines, 0, @lines - TAIL_LINES if @lines > TAIL_LINES;
    my $tb = Test::Builder->new;
    $tb->diag("--- error log of $self->{name} ($self->{root}), last lines:");
    $tb->diag($_) for @lines;
    return;
}

on_exit(sub {
    my ($status) = @_;
    $_->stop for @servers;
    my $bad = $status || !Test::Builder->new->is_passing || grep { $_->{failed} } @servers;
    $_->check_end for @servers;
    if ($bad || Autocert::Util::file_failed()) {
        $_->show_tail for @servers;
    }
});

1;
